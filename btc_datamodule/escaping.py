"""``escape``: what came from outside, made safe to show a person.

A server's words, the name of a file, a cell of it, an attribute: text of others may hold letters
that steer a terminal, hide what stands before them, begin a line that looks like one of ours, or
turn the order in which letters are read. Errors escape their message when they are made; what else
is shown passes here on its way out.
"""


def escape(text: str) -> str:
    """Write every letter of a text that is not shown as itself as Python's ``repr`` writes it.

    Control characters with the ends of lines among them, letters without width and those that
    turn the direction of writing, spaces other than the usual one, lone surrogates. What was
    escaped before stays as it is.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def escape_lines(text: str) -> str:
    """Escape a text of ours that has several lines: its ends of lines stay."""
    return "\n".join(map(escape, text.split("\n")))


def shorten(text: str, longest: int = 200) -> str:
    """Make one line of a text of others, cut after ``longest`` letters, and escape it."""
    line = " ".join(text[: 8 * longest].split())
    return escape(line if len(line) <= longest else f"{line[:longest]}...")


def escape_chain(error: BaseException) -> None:
    """Escape the words of an error, and of those behind it, that a traceback would show."""
    link: BaseException | None = error
    met: list[BaseException] = []
    while link is not None and link not in met:
        met.append(link)
        link.args = tuple(
            escape_lines(each) if isinstance(each, str) else each for each in link.args
        )
        link = link.__cause__ or link.__context__
