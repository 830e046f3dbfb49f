"""The package's exceptions.

Each message is one line that says what is wrong, where (file, row, time) and which argument or
command mends it. The command line prints it without a traceback. Everything derives from
``BTCDataError``, so one ``except`` catches whatever the package raises on purpose.
"""

from typing import TypeVar

from btc_datamodule.escaping import escape
from btc_datamodule.public import public


@public
class BTCDataError(Exception):
    """Base of every error that the package raises on purpose.

    Its message may quote what others wrote, such as a server: it is escaped when it is made.
    """

    def __init__(self, *words: object) -> None:
        super().__init__(*(escape(each) if isinstance(each, str) else each for each in words))


@public
class ConfigError(BTCDataError):
    """An argument is wrong, or a combination of arguments leaves nothing to work with."""


@public
class CandleError(BTCDataError):
    """Candles break their contract: a NaN price, high < low, a time off the grid."""


@public
class RecordError(BTCDataError):
    """Records break their contract: one that is known before its time, or times that fall."""


@public
class SourceError(BTCDataError):
    """A source could not answer: unknown product, unsupported interval, network failure."""


class AbsentError(SourceError):
    """What a source reads is not there: a file that was moved, renamed or left elsewhere."""


class BrokenError(SourceError):
    """A source fails by its own fault, or gives what is no answer: it is not to be passed over."""


@public
class StoreError(BTCDataError):
    """A file of ours is missing, damaged, of another schema, or locked by another process."""


class UnreadableError(StoreError):
    """A file of ours cannot be read now, which says nothing of its content.

    Another program has it open, it may not be read by this user, a filter is missing, a disk fails.
    """


@public
class LookAheadError(BTCDataError):
    """A feature's value depends on bars outside the lookback that it declares."""


class AuditError(BTCDataError):
    """An audit found that a guarantee does not hold."""


@public
class NotPreparedError(BTCDataError):
    """A dataset or loader was asked for before ``prepare_data()`` and ``setup()``."""


def get_first_line(error: BaseException) -> str:
    """The first line of what an error says, or its kind if it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


_E = TypeVar("_E", bound=BTCDataError)


def retell(error: _E, text: str) -> _E:
    """An error of the same kind, whatever that is made of, which says ``text``."""
    told = type(error).__new__(type(error), escape(text))
    vars(told).update(vars(error))
    return told
