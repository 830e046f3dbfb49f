"""What jsonargparse says of a value that may be of several kinds and is of none, as a tree.

Each kind tells why the value is none of it, one below the other, and in what one tells another
union may stand, indented. ``find_union`` gives the one that is about an argument; ``find_meant``
goes down the branch of the kind that was meant to what is wrong there.
"""

import re
from textwrap import dedent
from typing import NamedTuple

NOT_MEANT = re.compile(
    r"Expected a (?:<class '(?:NoneType|str)'>|dot import path string)|Not a valid subclass|"
    r"Key must be a string|Subclasses are disabled|Import path \S+ does not correspond|"
    r"Expected an instantiatable class"
)
"""How the answers of kinds begin that a value was not meant to be of."""

HEAD = re.compile(r"(?:Parser key \"([^\"]+)\"|Problem with given class_path '[^']+'):\s*\n(?= )")


class Union(NamedTuple):
    """A value that is of no kind that it may be.

    Attributes:
        kinds: as jsonargparse writes them.
        problems: what each kind says of it.
        value: as jsonargparse writes it.
    """

    kinds: str
    problems: list[str]
    value: str


class Branch(NamedTuple):
    """Where the way down a tree has ended.

    Attributes:
        argument: name of the argument within the value that it is about; "" for the value itself.
        problem: what is said there.
        union: the value there, if it is of no kind; None if something else is wrong with it.
    """

    argument: str
    problem: str
    union: Union | None


def find_union(message: str, kinds: str) -> Union | None:
    """The union in a message whose kinds begin so; None if there is none."""
    found = re.search(
        rf"^( *)(?:- )?Does not validate[^\n]*\n *Subtypes: \[{re.escape(kinds)}", message, re.M
    )
    if found is None:
        return None
    lines = message[found.start() :].split("\n")
    first = lines[0].lstrip(" -")
    inside = lines[1][: len(lines[1]) - len(lines[1].lstrip())]
    block = [line for line in lines[1:] if line.startswith(inside)]
    return _read_union("\n".join([first, dedent("\n".join(block))]))


def find_meant(union: Union) -> Branch:
    """What is wrong with a value of a union, in the branch of the kind that was meant."""
    argument, problem = "", ""
    at: Union | None = union
    while at is not None:
        union = at
        meant = [each for each in union.problems if not NOT_MEANT.match(each)]
        if not meant:
            return Branch(argument, problem, union)
        problem = meant[0]
        body, key = _strip_heads(problem)
        argument = key or argument
        at = _read_union(body)
    return Branch(argument, problem, None)


def find_key(whole: str, part: str) -> str:
    """The key of a mapping under which a value stands, both as jsonargparse writes them."""
    typed = re.match(r"NestedArg\(key='(\w+)", whole)
    if typed is not None:
        return typed[1]
    found = re.search(rf"[{{ ]'?([^\s'{{]+)'?: '?{re.escape(part)}'?(?=[,}}])", whole)
    return "" if found is None else found[1]


def _read_union(text: str) -> Union | None:
    found = re.match(
        r"Does not validate[^\n]*\nSubtypes: \[(.*?)\]\nErrors:\n(.*?)\n"
        r"Given value type: [^\n]*\nGiven value: (.*?)\s*\Z",
        text,
        re.DOTALL,
    )
    if found is None:
        return None
    problems = [dedent(f"    {each}").strip() for each in re.split(r"(?m)^  - ", found[2])[1:]]
    return Union(found[1], problems, found[3])


def _strip_heads(text: str) -> tuple[str, str]:
    """A text without the lines that only say where it is, and the argument that they name last."""
    argument = ""
    while found := HEAD.match(text):
        argument = found[1] or argument
        text = dedent(text[found.end() :])
    return text, argument
