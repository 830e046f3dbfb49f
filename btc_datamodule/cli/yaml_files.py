"""YAML files that a person gives, looked at before anything is made of them.

Whether they are there, can be read, and say each thing once. The parser behind the commands would
name neither the file nor what to change, and takes the last of two values without a word.
"""

import logging
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

import yaml

from btc_datamodule.cli.messages import TOP_KEYS
from btc_datamodule.cli.parsing import fail

log = logging.getLogger("btc_datamodule")

ENDINGS = (".yaml", ".yml", ".json")
CONFIG = ("-c", "--config")
PARTS = tuple(f"--{key}" for key in TOP_KEYS)
"""Options whose value may be a file."""

MOST_NODES = 100_000
"""Values in a file, each repetition counted."""

ADVICE = (
    ("'\\t' that cannot start", "indent with spaces, there is a tab"),
    ("could not find expected ':'", "write `key: value`, with a space after the colon"),
    (
        "mapping values are not allowed",
        "check how the line is indented, and quote a text with ': '",
    ),
    ("expected <block end>", "indent what belongs together by the same number of spaces"),
    ("another document", "keep what is before or after the line ---"),
    ("", "a bracket, a brace or a quote may not be closed"),
)
"""What to do about a text that is no YAML, by what PyYAML says of it."""


def check_files(arguments: Sequence[str]) -> None:
    """End the process with one line, and status 2, if a file among the arguments is no good.

    Args:
        arguments: those of a command, as typed.
    """
    for option, value in _list_values(arguments):
        if option in CONFIG and not value.strip():
            fail(f"the value of {option} is empty: give a YAML file")
        if "://" in value or value.lstrip().startswith(("{", "[")) or "\n" in value:
            continue  # fetched from elsewhere, or written on the spot
        if option in CONFIG or (option in PARTS and value.endswith(ENDINGS)):
            _check_file(option, Path(value))


def _list_values(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The options that have a value, and these."""
    for place, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if equals:
            yield option, value
        elif place + 1 < len(arguments) and not arguments[place + 1].startswith("-"):
            yield argument, arguments[place + 1]


def _check_file(option: str, path: Path) -> None:
    if not path.exists():
        near = {each.stem: each for each in path.parent.glob("*") if each.suffix in ENDINGS}
        close = get_close_matches(path.stem, near, n=1)
        hint = f": did you mean {near[close[0]]}?" if close else f": give one for {option}"
        fail(f"there is no file {path}{hint}")
    if path.is_dir():
        fail(f"{path} is a folder: give a YAML file for {option}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        fail(f"{path} is no text in UTF-8 (byte {error.start}): save it so")
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror}")
    try:
        log.debug("reads: %s", path)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        fail(_explain(path, error))
    except yaml.YAMLError as error:
        fail(f"{path} is no YAML: {' '.join(str(error).split())}")
    if not isinstance(root, yaml.MappingNode):
        due = "`data:`, and for a Trainer `model:`" if option in CONFIG else "`class_path:`"
        fail(f"{path} has no keys: it must have {due}")
    keys = [key.value for key, _ in root.value]
    if option in PARTS and option[2:] in keys and "class_path" not in keys:
        fail(
            f"{path} has `{option[2:]}:` in it: give it with --config, or what is under that alone"
        )
    if _count_nodes(root, {}) > MOST_NODES:
        fail(
            f"{path} stands for more than {MOST_NODES:,} values, as its anchors (`&name`) are "
            "repeated (`*name`) within each other: write out what is meant"
        )
    _check_keys(path, root, set())


def _count_nodes(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for, each alias being what it repeats."""
    if id(node) not in known:
        known[id(node)] = 1  # of one that has itself in it
        inside = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for item in inside for part in (item if isinstance(item, tuple) else [item])]
        known[id(node)] += sum(_count_nodes(part, known) for part in parts)
    return known[id(node)]


def _explain(path: Path, error: yaml.MarkedYAMLError) -> str:
    """What is wrong in which line of a text that is no YAML."""
    problem = error.problem or "it is no YAML"
    begun = error.context_mark if "expected ':'" in problem else None
    mark = begun or error.problem_mark or error.context_mark
    where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    advice = next(told for said, told in ADVICE if said in problem)
    return f"{path}{where}: {problem}: {advice}"


def _check_keys(path: Path, node: yaml.Node, seen: set[int]) -> None:
    """End the process if a mapping has one key twice."""
    if id(node) in seen:  # an alias, which may be inside what it stands for
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_keys(path, item, seen)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.value in lines and key.value != "<<":
            fail(
                f"{path}, line {line}: `{key.value}` is there already, in line {lines[key.value]}: "
                "keep one of them"
            )
        if isinstance(key, yaml.ScalarNode):
            lines[key.value] = line
        _check_keys(path, value, seen)
