"""From the text of an expression to the function that it stands for: parsed, never executed.

Owns the grammar that ``language`` tells of. Receives the right-hand side of an expression, gives
back a ``Node`` that computes all rows from columns. What is not on offer is an error that names the
feature and the column of the text. Which series and columns there are is checked once, where a
text is read; the text that comes out of that is compiled again wherever it is needed.
"""

import ast
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial, reduce
from typing import Any

import numpy as np

from btc_datamodule.candles.series import COLUMNS
from btc_datamodule.errors import ConfigError, LookAheadError
from btc_datamodule.features.beside import AGE, NONE_BESIDE, Beside, explain_absent, suggest
from btc_datamodule.features.meeting import (
    MAIN,
    Named,
    choose_clock,
    explain_age,
    find_obstacle,
    list_meeting,
)
from btc_datamodule.features.methods import (
    FUNCTIONS,
    METHODS,
    OPERATORS,
    Floats,
    Method,
    keep_defined,
)

NAMES = COLUMNS[1:]
"""The columns of the candles that an expression may name: all but the time."""

LONGEST = 1000
"""Characters of an expression."""

DEEPEST = 100
"""Levels of an expression's tree, so that Python's own stack is never the limit."""

_LOOKS_AHEAD = ("backward_fill", "bfill", "interpolate", "reverse")
_ENDLESS = ("cum_sum", "cum_prod", "cum_min", "cum_max", "cum_count", "forward_fill", "ffill")
_EXAMPLES = {"n": "1", "bars": "24", "span": "12", "low": "-1", "high": "1"}
"""A number for each argument of a method, for advice."""
_OFFER = "columns, numbers, + - * / **, a comparison, min, max and methods of columns"


@dataclass(frozen=True)
class Node:
    """A part of an expression that has a value on every row."""

    lookback: int
    columns: tuple[Named, ...]
    values: Callable[[Mapping[Named, Floats]], Floats]


Operand = Node | float
"""A part of an expression; a part without a column is a number."""


@lru_cache(maxsize=256)
def compile_text(text: str) -> Node:
    """The function that the right-hand side of an expression stands for, which was checked."""
    compiler = Compiler(text, 0, None)
    return compiler.compile(compiler.parse(text))


@dataclass(frozen=True)
class Compiler:
    """Makes functions of the trees of one text; its errors name the feature and the column.

    Attributes:
        name: the feature's.
        offset: characters before the right-hand side.
        beside: the series beside the candles by name; None for whatever the text says there are.
    """

    name: str
    offset: int
    beside: Mapping[str, Beside] | None

    def parse(self, right: str) -> ast.expr:
        """The right-hand side as a tree of Python's syntax; nothing is run."""
        self.check_length(right)
        for at, character in enumerate(right):
            if not re.match(r"[ -~\s]", character, re.ASCII) or character in "#\\":
                raise self.refuse(at, f"{character!r} is not part of an expression")
        if not right.strip():
            raise self.refuse(0, f"nothing follows the =: use {_OFFER}")
        try:
            with warnings.catch_warnings(action="ignore"):  # Python has views on style, too
                tree = ast.parse(re.sub(r"\s", " ", right.rstrip()), mode="eval").body
        except SyntaxError as error:
            at = error.offset - 1 if error.offset else len(right.rstrip())
            rest = right[at:].strip()[:20]
            problem = f"{rest!r} cannot stand here ({error.msg})" if rest else "it ends too early"
            raise self.refuse(at, problem) from None
        except (RecursionError, MemoryError):
            raise self.refuse(0, "nested too deeply") from None
        level: list[ast.AST] = [tree]
        for _ in range(DEEPEST):
            level = [below for node in level for below in ast.iter_child_nodes(node)]
        if level:
            raise self.refuse(0, "nested too deeply: make it a Feature in Python")
        return tree

    def check_length(self, right: str) -> None:
        """Raise ``ConfigError`` if a right-hand side is too long."""
        if len(right) > LONGEST:
            raise self.refuse(0, f"longer than {LONGEST} characters: make it a Feature in Python")

    def compile(self, tree: ast.expr) -> Node:
        """The function of a whole expression, which must name a column."""
        found = self.compile_part(tree)
        if not isinstance(found, Node):
            raise self.refuse(tree, f"it names no column; there are {', '.join(NAMES)}")
        return found

    def check_meeting(self, tree: ast.expr, named: Sequence[Named], interval: int | None) -> None:
        """Raise ``ConfigError`` if series of an expression do not meet bar by bar.

        Args:
            tree: the expression.
            named: the columns that it names.
            interval: of the candles; None if that is not known.
        """
        clock, _ = choose_clock(named)
        for other in list_meeting(named):
            problem = find_obstacle(clock, other, self.beside or NONE_BESIDE, interval)
            if problem is not None:
                raise self.refuse(_find_name(tree, other), problem + explain_age(named))

    def compile_part(self, node: ast.expr) -> Operand:
        """The function, or the number, of a part of an expression."""
        operation = _find_operation(node)
        if operation is not None:
            operator, sides = operation
            return self._combine(node, operator, [self.compile_part(side) for side in sides])
        match node:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                return self._check_number(node, value)
            case ast.Name(id=name):
                return self._compile_column(node, name)
            case ast.Call(func=ast.Name(id=name)) as call:
                return self._compile_function(call, name)
            case ast.Call(func=ast.Attribute() as access) as call:
                return self._compile_method(call, access)
            case ast.Attribute(value=ast.Name(id=series)) if self._is_of_series(node, series):
                return self._compile_column_of_series(node, series)
            case ast.Attribute(attr=name) as access:
                if name not in METHODS:
                    raise self._refuse_method(access)
                given = [_EXAMPLES[each] for each in METHODS[name].takes]
                right = f"{ast.unparse(node)}({', '.join(['open'] * METHODS[name].pair + given)})"
                raise self.refuse(node, f"{name} is not called: write {right}")
        raise self.refuse(node, f"{ast.unparse(node)!r} is not on offer: use {_OFFER}")

    def _check_number(self, node: ast.expr, value: float) -> float:
        try:
            number = float(value)
        except OverflowError:
            number = np.inf
        if not np.isfinite(number):
            raise self.refuse(node, f"{ast.unparse(node)[:40]} is no finite number")
        return number

    def _compile_column(self, node: ast.expr, name: str) -> Node:
        if name in NAMES:
            return _make_leaf(MAIN, name)
        beside = self.beside or NONE_BESIDE
        if name in beside:
            raise self.refuse(
                node, f"{name} is a series: name a column of it, {_list_columns_of(beside[name])}"
            )
        problem = f"there is no column {name!r}"
        owner = next((each.name for each in beside.values() if name in each.values), None)
        if owner is not None:
            raise self.refuse(node, f"{problem} of the candles: did you mean '{owner}.{name}'?")
        others = f", and the columns of {', '.join(beside)}" if beside else ""
        raise self.refuse(node, f"{problem}{suggest(name, NAMES)}{others}")

    def _is_of_series(self, node: ast.Attribute, series: str) -> bool:
        """Whether ``series.attribute`` means a column of a series, mistyped or not."""
        if self.beside is None or series in self.beside:
            return series not in NAMES
        alone = node.attr in NAMES and not self.beside
        return series not in NAMES and node.attr not in METHODS and not alone

    def _compile_column_of_series(self, node: ast.Attribute, series: str) -> Node:
        self._check_series(node, series)
        if self.beside is not None:
            columns, at = self.beside[series].values, _find_attribute(node)
            if node.attr == AGE:
                raise self.refuse(at, f"the age of a series is a function of it: {AGE}({series})")
            if node.attr not in columns:
                known = suggest(node.attr, columns)
                raise self.refuse(at, f"there is no column {node.attr!r} of {series}{known}")
        return _make_leaf(series, node.attr)

    def _check_series(self, node: ast.expr, series: str) -> None:
        if self.beside is not None and series not in self.beside:
            raise self.refuse(node, explain_absent(series, self.beside))

    def _compile_age(self, call: ast.Call) -> Node:
        match call:
            case ast.Call(args=[ast.Name(id=series) as name], keywords=[]) if series not in NAMES:
                self._check_series(name, series)
                return _make_leaf(series, AGE)
        example = next(iter(self.beside or ("eth",)))
        raise self.refuse(call, f"{AGE} is of a series beside the candles: {AGE}({example})")

    def _combine(
        self, node: ast.expr, operator: Callable[..., Any], operands: Sequence[Operand]
    ) -> Operand:
        nodes = [operand for operand in operands if isinstance(operand, Node)]
        if not nodes:
            with np.errstate(all="ignore"):
                return self._check_number(node, operator(*operands))

        def values(columns: Mapping[Named, Floats]) -> Floats:
            given = [each.values(columns) if isinstance(each, Node) else each for each in operands]
            return keep_defined(operator(*given), *given)

        return _make_node(nodes, 0, values)

    def _compile_function(self, node: ast.Call, name: str) -> Operand:
        if name in METHODS and node.args:
            call = ast.Attribute(node.args[0], name)  # in parentheses where there must be some
            raise self.refuse(node, f"{name} is a method: write {ast.unparse(call)}(...)")
        if name == AGE:
            return self._compile_age(node)
        if name not in FUNCTIONS:
            known = suggest(name, [*FUNCTIONS, AGE] if self.beside else FUNCTIONS)
            raise self.refuse(node, f"there is no function {name!r}{known}; the rest are methods")
        if len(node.args) < 2 or node.keywords:
            raise self.refuse(node, f"{name} is of two things or more: {name}(open, close)")
        operands = [self.compile_part(argument) for argument in node.args]
        return self._combine(node, lambda *given: reduce(FUNCTIONS[name], given), operands)

    def _compile_method(self, call: ast.Call, access: ast.Attribute) -> Operand:
        name = access.attr
        if name not in METHODS:
            raise self._refuse_method(access)
        inner = self.compile_part(access.value)
        if not isinstance(inner, Node):
            raise self.refuse(access, f"{name} is called on a number: call it on a column")
        method = METHODS[name]
        operands = [inner]
        if method.pair:
            other, call = self._take_other(call, name, method)
            operands.append(other)
        given = self._read_arguments(call, name, method)
        if not method.takes:
            return self._combine(call, method.apply, operands)
        further = int(given.get("n", 0)) + int(given.get("bars", 1)) - 1
        apply = partial(self._apply, method, operands, tuple(given.values()))
        return _make_node(operands, further, apply)

    @staticmethod
    def _apply(
        method: Method,
        operands: Sequence[Node],
        arguments: tuple[float, ...],
        columns: Mapping[Named, Floats],
    ) -> Floats:
        return keep_defined(method.apply(*(each.values(columns) for each in operands), *arguments))

    def _take_other(self, call: ast.Call, name: str, method: Method) -> tuple[Node, ast.Call]:
        """The second operand of a method of two columns, and the call without it."""
        args, keywords = list(call.args), list(call.keywords)
        named = [keyword for keyword in keywords if keyword.arg == "other"]
        if not args and not named:
            raise self.refuse(call, f"{name} needs other: {_tell_usage(name, method)}")
        node = named[0].value if named else args.pop(0)
        other = self.compile_part(node)
        if not isinstance(other, Node):
            raise self.refuse(node, f"other of {name} must be made of columns, and is a number")
        rest = ast.Call(call.func, args, [each for each in keywords if each not in named[:1]])
        return other, ast.copy_location(rest, call)

    def _read_arguments(self, call: ast.Call, name: str, method: Method) -> dict[str, float]:
        """The checked numbers that a method is called with, by name, in the order of the method."""
        usage = _tell_usage(name, method)
        if len(call.args) > len(method.takes):
            raise self.refuse(call.args[len(method.takes)], f"one number too many: {usage}")
        given: dict[str, ast.expr] = dict(zip(method.takes, call.args, strict=False))
        for keyword in call.keywords:
            if keyword.arg == "center":
                raise self._refuse_ahead(keyword, f"{name} with center=True reads later bars")
            if keyword.arg is None:
                raise self.refuse(keyword, f"** is not on offer: {usage}")
            if keyword.arg not in method.takes or keyword.arg in given:
                raise self.refuse(keyword, f"{name} has no option {keyword.arg!r} here: {usage}")
            given[keyword.arg] = keyword.value
        found: dict[str, float] = {"n": 1} if method.takes == ("n",) else {}
        found |= {each: self._read_argument(given[each], each, name) for each in given}
        missing = [each for each in method.takes if each not in found]
        if missing and name == "ewm_mean" and "bars" in missing:
            raise self.refuse(
                call,
                "ewm_mean remembers every bar there ever was: declare how many it may use, such "
                "as ewm_mean(span=20, bars=100), whose weights beyond are cut off",
            )
        if missing:
            raise self.refuse(call, f"{name} needs {', '.join(missing)}: {usage}")
        if found.get("bars", method.least) < method.least:
            raise self.refuse(given["bars"], f"bars of {name} must be at least {method.least}")
        if found.get("low", -np.inf) > found.get("high", np.inf):
            raise self.refuse(call, "clip has its lower bound above its upper one")
        return {each: found[each] for each in method.takes}

    def _read_argument(self, node: ast.expr, which: str, name: str) -> float:
        value = self.compile_part(node)
        if isinstance(value, Node):
            raise self.refuse(node, f"{which} of {name} must be a number")
        if which == "n" and value < 0:
            raise self._refuse_ahead(
                node, f"{name}({value:g}) reads later bars: n counts bars back"
            )
        if which in ("n", "bars") and not value.is_integer():
            raise self.refuse(node, f"{which} of {name} is {value:g}: it must be whole")
        if which == "span" and value < 1:
            raise self.refuse(node, f"span of {name} is {value:g}: it must be at least 1")
        return int(value) if which in ("n", "bars") else value

    def _refuse_method(self, node: ast.Attribute) -> ConfigError | LookAheadError:
        name, at = node.attr, _find_attribute(node)
        if name in _LOOKS_AHEAD:
            return self._refuse_ahead(at, f"{name} reads later bars")
        match node.value:
            case ast.Name(id=series) if self.beside and series in self.beside:
                if name in self.beside[series].values:
                    return self.refuse(at, f"{name} is a column: write {series}.{name}")
                known = _list_columns_of(self.beside[series])
                return self.refuse(at, f"{series} is a series: name a column of it, {known}")
        if name in NAMES:
            problem = f"a column stands alone: write {name}"
            if isinstance(node.value, ast.Name) and node.value.id not in NAMES:
                problem += f", or name a series {node.value.id!r} in `covariates`"
            return self.refuse(at, problem)
        problem = f"there is no method {name!r}"
        if name in _ENDLESS:
            problem += ": it reads back without end; use a window, such as rolling_sum(60)"
        elif f"rolling_{name}" in METHODS:
            problem += f": of a whole column it looks ahead; did you mean 'rolling_{name}'?"
        else:
            problem += suggest(name, METHODS)
        return self.refuse(at, problem)

    def _refuse_ahead(self, at: ast.expr | ast.keyword | int, problem: str) -> LookAheadError:
        return LookAheadError(f"{self._locate(at)}: it looks ahead: {problem}")

    def refuse(self, at: ast.expr | ast.keyword | int, problem: str) -> ConfigError:
        """An error to raise, which names the feature and the column."""
        return ConfigError(f"{self._locate(at)}: {problem}")

    def _locate(self, at: ast.expr | ast.keyword | int) -> str:
        column = at if isinstance(at, int) else at.col_offset
        return f"feature {self.name!r}, column {self.offset + column + 1}"


def _find_operation(node: ast.expr) -> tuple[np.ufunc, list[ast.expr]] | None:
    """The operator and the operands of a part, or None if the part is no operation on offer."""
    kind: type[ast.AST]
    match node:
        case ast.BinOp():
            kind, sides = type(node.op), [node.left, node.right]
        case ast.UnaryOp():
            kind, sides = type(node.op), [node.operand]
        case ast.Compare(ops=[operator], comparators=[right]):
            kind, sides = type(operator), [node.left, right]
        case _:
            return None
    return (OPERATORS[kind], sides) if kind in OPERATORS else None


def _make_leaf(series: str, column: str) -> Node:
    return Node(1, ((series, column),), lambda columns: columns[series, column])


def _make_node(
    operands: Sequence[Node], further: int, values: Callable[[Mapping[Named, Floats]], Floats]
) -> Node:
    """A part that reaches ``further`` bars back than the longest of its operands."""
    named = dict.fromkeys(column for each in operands for column in each.columns)
    return Node(max(each.lookback for each in operands) + further, tuple(named), values)


def _tell_usage(name: str, method: Method) -> str:
    return f"{name}({', '.join(['other'] * method.pair + [*method.takes])})"


def _list_columns_of(series: Beside) -> str:
    columns = series.values
    return f"such as {series.name}.{columns[0]}; there are {', '.join(columns)}"


def _find_attribute(node: ast.Attribute) -> int:
    """Characters before the name after the point."""
    return (node.end_col_offset or len(node.attr)) - len(node.attr)


def _find_name(tree: ast.expr, name: str) -> int:
    """Characters before the first place where a name stands."""
    nodes = [each for each in ast.walk(tree) if isinstance(each, ast.Name) and each.id == name]
    return min(each.col_offset for each in nodes)
