"""Features written as a line of text: ``"momentum_10 = close / close.shift(10) - 1"``.

Owns the language of such expressions: what may stand in one, what it computes, how far back it
looks. A text is parsed into a tree and nothing in it is ever executed: what is not on the list
here is an error that says where it stands. It may hold

    columns      open high low close volume quote_volume trades taker_buy_volume
    numbers      and + - * / ** and parentheses
    comparisons  < <= > >= == != of two things: 1 where true, 0 where false
    functions    min(a, b, ...) and max(a, b, ...), row by row
    methods      of ``METHODS``, such as close.log().diff().rolling_std(60)

The lookback follows from the text. A column needs 1 bar; an operator or a function as many as the
longest of its operands; ``shift(n)``, ``diff(n)`` and ``pct_change(n)`` n more; a window of
``bars`` rows bars - 1 more. An exponential mean would need every bar there ever was: it is cut
off at ``bars``, which must be given.

What is not defined (a bar that was not observed, ln 0, a division by 0) is NaN, and so is all that
is made of it, each window with such a bar included. A window is computed from its own bars alone
and always in the same steps: a value has the same bits in every frame that holds its lookback, and
what came before leaves no rounding behind. In a market that stands still the deviation is 0, not
almost 0.
"""

import ast
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache, partial, reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from btc_datamodule.candles.series import COLUMNS, OPTIONAL, Columns
from btc_datamodule.errors import ConfigError, LookAheadError
from btc_datamodule.features.fingerprint import find_parts, hash_source
from btc_datamodule.features.methods import (
    FUNCTIONS,
    METHODS,
    OPERATORS,
    Floats,
    Method,
    keep_defined,
)

if TYPE_CHECKING:
    import polars as pl

NAMES = COLUMNS[1:]
"""The columns that an expression may name: all but the time."""

LONGEST = 1000
"""Characters of an expression."""

DEEPEST = 100
"""Levels of an expression's tree, so that Python's own stack is never the limit."""


@dataclass(frozen=True)
class Expression:
    """The function that a text stands for: from a frame of bars to a series.

    Attributes:
        text: the right-hand side as this package would write it, whatever the spaces were.
        lookback: bars that the expression needs, the current one included.
        needs: the optional columns that it names.
    """

    text: str
    lookback: int
    needs: tuple[str, ...]

    def __call__(self, bars: "pl.DataFrame") -> "pl.Series":
        """Values of all rows, NaN where undefined."""
        import polars as pl

        node = _compile(self.text)
        columns = {name: bars[name].cast(pl.Float64).to_numpy() for name in node.columns}
        with np.errstate(all="ignore"):
            return pl.Series(node.values(columns))


@find_parts.register
def _(expression: Expression) -> Iterable[Any]:
    """An expression is known by its text and by the two files that say what the text means."""
    return [vars(expression), hash_source(Expression), hash_source(Method)]


def is_expression(text: str) -> bool:
    """Whether a text means to be an expression and not the name of a feature."""
    return re.search(r"[^\w\s-]", text) is not None


def parse(text: str) -> tuple[str, Expression]:
    """The name and the expression of ``"name = expression"``.

    Raises:
        ConfigError: if the text is not in the language; it says at which column, and what is.
        LookAheadError: if it would read later bars, as ``shift(-1)`` does.
    """
    split = re.match(r"\s*([^=]*?)\s*=(?!=)\s*", text)
    if split is None:
        raise ConfigError(
            f"the expression {text!r} has no name: write it with one of your own, "
            f"'my_feature = {text.strip()}'"
        )
    name, right = split[1], text[split.end() :]
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ConfigError(
            f"feature {text!r}: {name!r} is no name: begin with a letter and go on with letters, "
            "digits and underscores"
        )
    compiler = _Compiler(name, split.end())
    tree = compiler.parse(right)
    node = compiler.compile(tree)
    needs = tuple(column for column in OPTIONAL if column in node.columns)
    return name, Expression(ast.unparse(tree), node.lookback, needs)


_LOOKS_AHEAD = ("backward_fill", "bfill", "interpolate", "reverse")
_ENDLESS = ("cum_sum", "cum_prod", "cum_min", "cum_max", "cum_count", "forward_fill", "ffill")
_EXAMPLES = {"n": "1", "bars": "24", "span": "12", "low": "-1", "high": "1"}
"""A number for each argument of a method, for advice."""
_OFFER = "columns, numbers, + - * / **, a comparison, min, max and methods of columns"


# --- from text to function ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Node:
    """A part of an expression that has a value on every row."""

    lookback: int
    columns: frozenset[str]
    values: Callable[[Columns], Floats]


Operand = _Node | float
"""A part of an expression; a part without a column is a number."""


@lru_cache(maxsize=256)
def _compile(text: str) -> _Node:
    """The function that the right-hand side of an expression stands for."""
    compiler = _Compiler(text, 0)
    return compiler.compile(compiler.parse(text))


@dataclass(frozen=True)
class _Compiler:
    """Makes functions of the trees of one text; its errors name the feature and the column.

    Attributes:
        name: the feature's.
        offset: characters before the right-hand side.
    """

    name: str
    offset: int

    def parse(self, right: str) -> ast.expr:
        """The right-hand side as a tree of Python's syntax; nothing is run."""
        if len(right) > LONGEST:
            raise self._refuse(0, f"longer than {LONGEST} characters: make it a Feature in Python")
        for at, character in enumerate(right):
            if not re.match(r"[ -~\s]", character, re.ASCII) or character in "#\\":
                raise self._refuse(at, f"{character!r} is not part of an expression")
        if not right.strip():
            raise self._refuse(0, f"nothing follows the =: use {_OFFER}")
        try:
            with warnings.catch_warnings(action="ignore"):  # Python has views on style, too
                tree = ast.parse(re.sub(r"\s", " ", right.rstrip()), mode="eval").body
        except SyntaxError as error:
            at = error.offset - 1 if error.offset else len(right.rstrip())
            rest = right[at:].strip()[:20]
            problem = f"{rest!r} cannot stand here ({error.msg})" if rest else "it ends too early"
            raise self._refuse(at, problem) from None
        except (RecursionError, MemoryError):
            raise self._refuse(0, "nested too deeply") from None
        level: list[ast.AST] = [tree]
        for _ in range(DEEPEST):
            level = [below for node in level for below in ast.iter_child_nodes(node)]
        if level:
            raise self._refuse(0, "nested too deeply: make it a Feature in Python")
        return tree

    def compile(self, tree: ast.expr) -> _Node:
        """The function of a whole expression, which must name a column."""
        found = self.compile_part(tree)
        if not isinstance(found, _Node):
            raise self._refuse(tree, f"it names no column; there are {', '.join(NAMES)}")
        return found

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
            case ast.Attribute(attr=name) as access:
                if name not in METHODS:
                    raise self._refuse_method(access)
                numbers = ", ".join(_EXAMPLES[each] for each in METHODS[name].takes)
                right = f"{ast.unparse(node)}({numbers})"
                raise self._refuse(node, f"{name} is not called: write {right}")
        raise self._refuse(node, f"{ast.unparse(node)!r} is not on offer: use {_OFFER}")

    def _check_number(self, node: ast.expr, value: float) -> float:
        try:
            number = float(value)
        except OverflowError:
            number = np.inf
        if not np.isfinite(number):
            raise self._refuse(node, f"{ast.unparse(node)[:40]} is no finite number")
        return number

    def _compile_column(self, node: ast.expr, name: str) -> _Node:
        if name not in NAMES:
            raise self._refuse(node, f"there is no column {name!r}{_suggest(name, NAMES)}")
        return _Node(1, frozenset([name]), lambda columns: columns[name])

    def _combine(
        self, node: ast.expr, operator: Callable[..., Any], operands: Sequence[Operand]
    ) -> Operand:
        nodes = [operand for operand in operands if isinstance(operand, _Node)]
        if not nodes:
            with np.errstate(all="ignore"):
                return self._check_number(node, operator(*operands))

        def values(columns: Columns) -> Floats:
            given = [each.values(columns) if isinstance(each, _Node) else each for each in operands]
            return keep_defined(operator(*given), *given)

        names = frozenset[str]().union(*(each.columns for each in nodes))
        return _Node(max(each.lookback for each in nodes), names, values)

    def _compile_function(self, node: ast.Call, name: str) -> Operand:
        if name in METHODS and node.args:
            call = ast.Attribute(node.args[0], name)  # in parentheses where there must be some
            raise self._refuse(node, f"{name} is a method: write {ast.unparse(call)}(...)")
        if name not in FUNCTIONS:
            known = _suggest(name, FUNCTIONS)
            raise self._refuse(node, f"there is no function {name!r}{known}; the rest are methods")
        if len(node.args) < 2 or node.keywords:
            raise self._refuse(node, f"{name} is of two things or more: {name}(open, close)")
        operands = [self.compile_part(argument) for argument in node.args]
        return self._combine(node, lambda *given: reduce(FUNCTIONS[name], given), operands)

    def _compile_method(self, call: ast.Call, access: ast.Attribute) -> Operand:
        name = access.attr
        if name not in METHODS:
            raise self._refuse_method(access)
        inner = self.compile_part(access.value)
        if not isinstance(inner, _Node):
            raise self._refuse(access, f"{name} is called on a number: call it on a column")
        method = METHODS[name]
        given = self._read_arguments(call, name, method)
        if not method.takes:
            return self._combine(call, method.apply, [inner])
        further = int(given.get("n", 0)) + int(given.get("bars", 1)) - 1
        apply = partial(self._apply, method, tuple(given.values()), inner)
        return _Node(inner.lookback + further, inner.columns, apply)

    @staticmethod
    def _apply(
        method: Method, arguments: tuple[float, ...], inner: _Node, columns: Columns
    ) -> Floats:
        return keep_defined(method.apply(inner.values(columns), *arguments))

    def _read_arguments(self, call: ast.Call, name: str, method: Method) -> dict[str, float]:
        """The checked numbers that a method is called with, by name, in the order of the method."""
        usage = f"{name}({', '.join(method.takes)})"
        if len(call.args) > len(method.takes):
            raise self._refuse(call.args[len(method.takes)], f"one number too many: {usage}")
        given: dict[str, ast.expr] = dict(zip(method.takes, call.args, strict=False))
        for keyword in call.keywords:
            if keyword.arg == "center":
                raise self._refuse_ahead(keyword, f"{name} with center=True reads later bars")
            if keyword.arg is None:
                raise self._refuse(keyword, f"** is not on offer: {usage}")
            if keyword.arg not in method.takes or keyword.arg in given:
                raise self._refuse(keyword, f"{name} has no option {keyword.arg!r} here: {usage}")
            given[keyword.arg] = keyword.value
        found: dict[str, float] = {"n": 1} if method.takes == ("n",) else {}
        found |= {each: self._read_argument(given[each], each, name) for each in given}
        missing = [each for each in method.takes if each not in found]
        if missing and name == "ewm_mean" and "bars" in missing:
            raise self._refuse(
                call,
                "ewm_mean remembers every bar there ever was: declare how many it may use, such "
                "as ewm_mean(span=20, bars=100), whose weights beyond are cut off",
            )
        if missing:
            raise self._refuse(call, f"{name} needs {', '.join(missing)}: {usage}")
        if found.get("bars", method.least) < method.least:
            raise self._refuse(given["bars"], f"bars of {name} must be at least {method.least}")
        if found.get("low", -np.inf) > found.get("high", np.inf):
            raise self._refuse(call, "clip has its lower bound above its upper one")
        return {each: found[each] for each in method.takes}

    def _read_argument(self, node: ast.expr, which: str, name: str) -> float:
        value = self.compile_part(node)
        if isinstance(value, _Node):
            raise self._refuse(node, f"{which} of {name} must be a number")
        if which == "n" and value < 0:
            raise self._refuse_ahead(
                node, f"{name}({value:g}) reads later bars: n counts bars back"
            )
        if which in ("n", "bars") and not value.is_integer():
            raise self._refuse(node, f"{which} of {name} is {value:g}: it must be whole")
        if which == "span" and value < 1:
            raise self._refuse(node, f"span of {name} is {value:g}: it must be at least 1")
        return int(value) if which in ("n", "bars") else value

    def _refuse_method(self, node: ast.Attribute) -> ConfigError | LookAheadError:
        name = node.attr
        at = (node.end_col_offset or len(name)) - len(name)
        if name in _LOOKS_AHEAD:
            return self._refuse_ahead(at, f"{name} reads later bars")
        if name in NAMES:
            return self._refuse(at, f"a column stands alone: write {name}")
        problem = f"there is no method {name!r}"
        if name in _ENDLESS:
            problem += ": it reads back without end; use a window, such as rolling_sum(60)"
        elif f"rolling_{name}" in METHODS:
            problem += f": of a whole column it looks ahead; did you mean 'rolling_{name}'?"
        else:
            problem += _suggest(name, METHODS)
        return self._refuse(at, problem)

    def _refuse_ahead(self, at: ast.expr | ast.keyword | int, problem: str) -> LookAheadError:
        return LookAheadError(f"{self._locate(at)}: it looks ahead: {problem}")

    def _refuse(self, at: ast.expr | ast.keyword | int, problem: str) -> ConfigError:
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


def _suggest(given: str, known: Iterable[str]) -> str:
    """The end of an error on an unknown name: the nearest known name and all of them."""
    names = list(known)
    close = get_close_matches(given, names, n=1)
    guess = f": did you mean {close[0]!r}?" if close else ";"
    return f"{guess} there are {', '.join(names)}"
