"""What a person is told of a mistake: one line that says where it is and what would be right."""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from importlib import import_module
from inspect import isabstract, isclass, signature
from traceback import walk_tb
from typing import Any

from btc_datamodule.cli.unions import Union, find_key, find_meant, find_union
from btc_datamodule.covariates import AS_COVARIATE
from btc_datamodule.errors import BTCDataError
from btc_datamodule.features.compiling import NAMES

TOP_KEYS = ("seed_everything", "trainer", "model", "data", "optimizer", "lr_scheduler", "ckpt_path")


def suggest_name(given: str, names: Iterable[str], have: str = "It has") -> str:
    """The rest of a sentence on a name that does not exist: the nearest that does, and all."""
    names = list(names)
    close = get_close_matches(given, names, n=1)
    guess = f": did you mean {close[0]!r}?" if close else "."
    return f"{guess} {have}: {', '.join(names)}"


def explain_error(error: Exception) -> str | None:
    """What to say of an error that a user's input has caused; None if it is not of that kind."""
    told_of_covariates = explain_covariates(str(error))
    if told_of_covariates is not None:
        return told_of_covariates
    ours: BaseException | None = error
    while ours is not None and not isinstance(ours, BTCDataError):
        ours = ours.__cause__  # jsonargparse wraps what it meets
    if ours is not None:
        return str(ours)
    refused = type(error).__name__ == "MisconfigurationException"  # Lightning's
    told = refused or isinstance(error, OSError | UnicodeDecodeError)
    if told or (isinstance(error, REFUSALS) and _is_of_trainer_parts(error)):
        return " ".join(str(error).split())
    wraps = str(error).startswith("Does not validate against any")  # so jsonargparse begins
    if wraps and isinstance(error.__cause__, Exception):
        return explain_error(error.__cause__)
    if "loading state_dict" in str(error):
        return (
            "the model in the checkpoint has other sizes than this one: were `lookback`, "
            "`horizon`, `features` or arguments of the model others? "
            f"({' '.join(str(error).split())})"
        )
    return None


def _is_of_trainer_parts(error: Exception) -> bool:
    """Whether a callback or a logger of Lightning's has refused what it was told.

    It has raised the error itself, and no code but Lightning's and the parser's was on the way: an
    error that passed through a model, or a callback of one's own, is to be seen with its traceback.
    """
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in walk_tb(error.__traceback__)]
    own = all(module.startswith(PASSED) or module in sys.stdlib_module_names for module in modules)
    return own and modules[-1].startswith(TRAINER_PARTS)


REFUSALS = (ValueError, RuntimeError, ImportError)
PASSED = ("lightning.", "jsonargparse.", "btc_datamodule.cli.", "torch.")
TRAINER_PARTS = tuple(
    f"lightning.{place}" for place in ("pytorch.callbacks.", "pytorch.loggers.", "fabric.loggers.")
)


def explain_message(message: str, options: Sequence[str]) -> str:
    """What jsonargparse says of a wrong setting, as one line that lists what would be right.

    Args:
        message: of the parser.
        options: all of the command, such as ``--output`` and ``--data.lookback``.
    """
    told_of_covariates = explain_covariates(message)
    if told_of_covariates is not None:
        return told_of_covariates
    unknown = re.match(r"unrecognized arguments: (--?[A-Za-z][^\s=]*)", message)
    if unknown and not unknown[1].startswith("--trainer."):
        return _explain_unknown(unknown[1], options)
    return _explain_by_rules(message)


def _explain_unknown(given: str, options: Sequence[str]) -> str:
    """What to say of an option that a command has not; it may be a setting without its path."""
    short = sorted(options, key=lambda option: option.count("."), reverse=True)
    meant = {option[2:].rpartition(".")[2]: option for option in short}  # those of one word win
    name, dot, rest = given.lstrip("-").partition(".")
    close = get_close_matches(name.replace("-", "_"), meant, n=1)
    guess = f": did you mean {meant[close[0]]}{dot}{rest}?" if close else "."
    have = ", ".join(option for option in options if "." not in option)
    return f"there is no option {given}{guess} There are: {have}, and --data.KEY for the settings"


def _explain_by_rules(message: str) -> str:
    for pattern, told in RULES:
        if found := re.search(pattern, message, re.DOTALL):
            return told(*found.groups())
    noise = r"Given value|Subtypes:|Errors:|Does not validate|<class 'NoneType'>|^\s*$"
    lines = [line.strip(" -") for line in message.splitlines() if not re.search(noise, line)]
    return _cut_class_reprs(" ".join(lines))


def explain_covariates(message: str) -> str | None:
    """One line on what jsonargparse says of ``covariates`` or ``max_age``; None if it does not."""
    ages = find_union(message, "dict[str, str | None]")
    if ages is not None:
        one = find_union(ages.problems[0], "<class 'str'>")
        where = f" of {find_key(ages.value, one.value)!r}" if one else ""
        return f"max_age{where} is {_cut((one or ages).value)}: {AN_AGE if one else AGES}"
    every = find_union(message, "dict[str, btc_datamodule.Source |")
    if every is None:
        return None
    one = find_union(every.problems[0], "<class 'btc_datamodule.Source'>")
    if one is None:
        return f"covariates is {_cut(every.value)}: {COVARIATES}"
    where = f"covariate {find_key(every.value, one.value)!r}"
    argument, problem, union = find_meant(one)
    named = re.match(r"Problem with given class_path '([^']+)'", problem)
    if named and named[1].lower().endswith(DATA_ENDINGS):
        right = f"{{class_path: CandleFile, init_args: {{path: {named[1]}}}}}"
        return f"{where}{argument and f': `{argument}`'} is {named[1]!r}: for a file write {right}"
    loose = _explain_loose((union or one).value)
    if loose or union is None or "btc_datamodule.Source" not in union.kinds:
        return f"{where}: {loose or _explain_by_rules(problem)}"
    return f"{where}{argument and f': `{argument}`'} is {_explain_source(union)}"


def _explain_source(union: Union) -> str:
    """What to say of a value that is no source of candles or of records."""
    bases = re.findall(r"btc_datamodule\.\w+", union.kinds)
    kinds = [name for base in bases for name in _list_kinds(base) or [_cut_path(base)]]
    named = re.match(r"(?:\{'class_path': |Namespace\(class_path=)?'?([\w.]+)'?", union.value)
    name = "" if named is None else _cut_path(named[1])
    if name in ("", "None", "True", "False") or name.isdigit():
        return f"{_cut(union.value)}: give a class with its arguments, such as {A_COVARIATE}"
    if re.fullmatch(r"\d+[a-zA-Z]", name):
        longer = f"{{class_path: Resampled, init_args: {{interval: {name}}}}}"
        return f"{name!r}: for bars of {name} write {longer}"
    other = ""
    if hasattr(import_module("btc_datamodule"), name):
        other = f", which is no source of candles{' or records' * (len(bases) > 1)}"
    return f"{name!r}{other}{suggest_name(name, kinds, 'There are')}"


def _explain_loose(value: str) -> str | None:
    """What to say of a class with arguments beside it, which belong below ``init_args``."""
    found = re.fullmatch(
        r"\{'class_path': '([\w.]+)', ('(?!init_arg|dict_kwargs)\w+': .*)\}", value
    )
    if found is None:
        return None
    arguments = found[2].replace("'", "")
    right = f"{{class_path: {found[1]}, init_args: {{{arguments}}}}}"
    return f"arguments of {_cut_path(found[1])} stand below `init_args`: write {right}"


def _explain_option(class_path: str, option: str) -> str:
    if class_path == "lightning.Callback":  # what is said of the last one in a list
        return f"the callback has no option {option!r}"
    option = option.partition(".")[0]
    if option == "init_arg":
        return f"{_cut_path(class_path)} has no option 'init_arg': write `init_args:`"
    others = suggest_name(option, _list_options(class_path))
    return f"{_cut_path(class_path)} has no option {option!r}{others}"


def _explain_class(class_path: str, problem: str) -> str:
    place, name = class_path.partition(".")[0], _cut_path(class_path)
    if class_path.endswith(".py"):
        path = class_path.removesuffix(".py").replace("/", ".")
        return f"{class_path!r} is a file: write its class, such as {path}.MyModel"
    if class_path.lower().endswith(DATA_ENDINGS):
        return (
            f"{class_path!r} is a file: write --data.source CandleFile "
            f"--data.source.path {class_path}"
        )
    package = import_module("btc_datamodule")
    close = get_close_matches(name, package.__all__, n=1)
    hint = f": did you mean 'btc_datamodule.{close[0]}'?" if close else ""
    if not close and problem.endswith(f"No module named {place!r}"):
        hint = f": is {place}.py in the folder where you are, or {place} installed?"
    return f"there is no class {class_path!r} to use here ({problem}){hint}"


def _explain_key(path: str) -> str:
    key, _, rest = path.partition(".")
    if key == "trainer" and rest:
        others = suggest_name(rest, _list_options("lightning.pytorch.Trainer"))
        return f"trainer has no option {rest!r}{others}"
    return f"there is no key {key!r}{suggest_name(key, TOP_KEYS)}"


def _explain_kind(key: str, base: str, name: str) -> str:
    right = suggest_name(name, _list_kinds(base), "There are")
    return f"{key} is {name!r}{_explain_beside(base, name) or right}"


def _explain_base(key: str, base: str, name: str) -> str:
    right = f", which is no {_cut_path(base)}. There are: {', '.join(_list_kinds(base))}"
    return f"{key} is {name!r}{_explain_beside(base, name) or right}"


def _explain_beside(base: str, name: str) -> str | None:
    """The rest of a sentence on a covariate in the place of the candles; None if it is none."""
    if _cut_path(base) != "Source":
        return None
    known = _cut_path(name) in ("Resampled", *_list_kinds("btc_datamodule.RecordSource"))
    return f", {AS_COVARIATE}" if known or _has_records(name) else None


def _has_records(class_path: str) -> bool:
    """Whether a class path is that of a source of records."""
    from btc_datamodule import RecordSource

    module, _, name = class_path.rpartition(".")
    kind = getattr(sys.modules.get(module), name, None)  # jsonargparse has imported it
    return isinstance(kind, type) and issubclass(kind, RecordSource)


def _explain_choices(key: str, due: str, value: str) -> str:
    choices = ", ".join(re.findall(r"Literal\[([^\]]+)\]", due))
    return f"{key} is {value!r}: choose one of {', '.join(dict.fromkeys(choices.split(', ')))}"


def _explain_stray(value: str) -> str:
    if value.endswith((".yaml", ".yml")):
        return f"{value!r} stands alone: write --config {value}"
    return f"{value!r} stands alone: write --KEY VALUE, such as --data.lookback 96"


def _explain_valueless(option: str) -> str:
    return f"{option} stands without a value: write it after that"


def _explain_value(key: str, due: str, value: str) -> str:
    nested = re.fullmatch(r"NestedArg\(key='[^']*', val='?(.*?)'?\)", value)
    value = nested[1] if nested else value
    if key == "features":
        lone = value if re.fullmatch(r"[A-Za-z_]\w*", value) else "log_return"
        lone = f'"{lone} = {lone}"' if lone in NAMES else lone
        return (
            f"features is {value!r}: give a list of names, or lines with a name, such as "
            f'[{lone}, "momentum_10 = close / close.shift(10) - 1"]'
        )
    if key == "folds":
        return f"folds is {value!r}: give numbers, such as [0, 2], or leave it out for all folds"
    if due == "<class 'str'>" and re.fullmatch(r"-?[\d.]+", value):
        is_length = key.rpartition(".")[2] == "interval"
        right = "give it with its unit, such as 1h" if is_length else "write it in quotes"
        return f"{key} is {value!r}, a number: {right} (YAML reads 1:00 as 60)"
    if re.search(r"\b(Sequence|list)\b", due):
        return f"{key} is {value!r}: give a list, such as [{value}]"
    choices = re.fullmatch(r"(?:typing\.)?Literal\[(.+)\]", due)
    kind = f"it must be of type {_cut_class_reprs(due)}"
    right = f"choose one of {choices[1]}" if choices else kind
    return f"{key} is {value!r}: {right}"


def _explain_function(key: str, problem: str, path: str) -> str:
    return f"{key} is {path!r}: it must be the path of a function ({problem})"


def _explain_lacking(keys: str) -> str:
    names = " and no ".join(re.findall(r"\w+\.(\w+)", keys))
    return f"there is no {names}: give --config FILE.yaml with it"


def _explain_path(key: str, value: str) -> str:
    classes = {"split": FRACTIONS, "target": "LogReturn", "source": "Simulator"}
    return f"{key} is {value}: give a class{f', such as {classes[key]}' if key in classes else ''}"


def _explain_incomplete(class_path: str, arguments: str) -> str:
    return f"{_cut_path(class_path)} needs `{arguments.strip()}`"


def _explain_abstract(key: str, base: str, value: str | None) -> str:
    loose = _explain_loose(value or "")
    if loose is not None:
        return f"{key}: {loose}"
    return f"{key} has no class: choose one of {', '.join(_list_kinds(base))}"


INNERMOST = r"""^.*Parser key "([^"]+)":.*?"""
"""Those outside it quote it."""

FRACTIONS = "FractionSplit, and its numbers as --data.split.val 0.2 --data.split.test 0.2"
AGES = "give a mapping from names of covariates to ages, such as {funding: 8h}"
AN_AGE = "write a number and a unit, such as 8h, or null for never too old"
A_COVARIATE = "{class_path: Coinbase, init_args: {product: ETH-USD}}"
COVARIATES = f"give a mapping from names to sources, such as {{eth: {A_COVARIATE}}}"
DATA_ENDINGS = (".csv", ".gz", ".zip", ".parquet", ".json", ".h5", ".hdf5", ".feather", ".xlsx")

RULES: tuple[tuple[str, Callable[..., str]], ...] = (
    (r"^.*given class_path '([^']+)':\s+[^\n]*Option '([^']+)' is not accepted", _explain_option),
    (
        r"^.*given class_path '([^']+)':\s+"
        r"([^\n]*(?:has no attribute|No module named|not a subclass)[^\n]*)",
        _explain_class,
    ),
    (INNERMOST + r"Unexpected import path format: ([^\n]+)", _explain_path),
    (
        r"^.*given class_path '([^']+)':\s+unrecognized arguments: --([^\s=]+)",
        _explain_option,
    ),
    (r"accept option '([^']+)'", _explain_key),
    (r"^Option '([^']+)' is not accepted", _explain_key),
    (r"^unrecognized arguments: --([^\s=]+)", _explain_key),
    (r"^unrecognized arguments: (\S+)", _explain_stray),
    (r"^argument (?:-\w/)?(--\S+): expected one argument", _explain_valueless),
    (
        INNERMOST + r"Subtypes: \[[^\n]*?<class '([\w.]+)'>.*?"
        r"does not correspond to a subclass of.*?Given value: (?:\{'class_path': ')?([^\s',}]+)",
        _explain_base,
    ),
    (
        INNERMOST + r"Subtypes: \[[^\n]*?<class '([\w.]+)'>.*?"
        r"Expected a dot import path string: (\S+)",
        _explain_kind,
    ),
    (
        r'Parser key "([^"]+)":\s+(?:- Expected a path[^\n]*\s+- )?'
        r"Expected a ([^\n]+?)\. Got value: ([^\n]+)",
        _explain_value,
    ),
    (INNERMOST + r"(Expected a (?:typing\.)?Literal\[.*?)Given value: ([^\n]+)", _explain_choices),
    (INNERMOST + r"a callable class: ([^\n]+).*?Given value: ([^\n]+)", _explain_function),
    (r"^the following arguments are required: (.+)", _explain_lacking),
    (
        r"^.*given class_path '([^']+)':\s+the following arguments are required: ([^\n]+)",
        _explain_incomplete,
    ),
    (INNERMOST + r"but ([\w.]+) is abstract(?:.*?Given value: ([^\n]+))?", _explain_abstract),
    (
        INNERMOST + r"Expected a (<class '(?!NoneType)[^']+'>).*?Given value: ([^\n]+)",
        _explain_value,
    ),
)
"""What is found in a message of jsonargparse, and what is made of the parts in brackets."""


def import_object(class_path: str) -> Any:
    """What a class path names."""
    module, _, name = class_path.rpartition(".")
    return getattr(import_module(module), name)


def _list_options(class_path: str) -> list[str]:
    parameters = signature(import_object(class_path)).parameters
    return [option for option in parameters if option not in ("self", "args", "kwargs")]


def _list_kinds(base_path: str) -> list[str]:
    """The classes of a kind that have a short name."""
    base = import_object(base_path)
    module = base_path.rpartition(".")[0]
    places = import_module("btc_datamodule"), import_module(module.rpartition(".")[0] or module)
    found = {key: getattr(place, key) for place in places for key in dir(place)}
    return [
        key
        for key, value in found.items()
        if isclass(value) and issubclass(value, base) and not isabstract(value)
    ]


def _cut(value: str) -> str:
    """What was given, in so many letters that a line of it is read."""
    return repr(value) if re.fullmatch(r"\S+", value) else f"{value:.80}"


def _cut_path(class_path: str) -> str:
    return class_path.rpartition(".")[2]


def _cut_class_reprs(text: str) -> str:
    return re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text)
