"""The clock that ``follow`` goes by, and how long it waits for the next bar.

A test gives a clock of its own. What is asked of a source depends on the time of the machine.
"""

import time
from dataclasses import dataclass
from typing import Protocol

from btc_datamodule.candles.timeline import Interval, floor_to
from btc_datamodule.public import public

FIRST_PAUSE = 1.0
"""Seconds after which a bar that is late is asked for again; each pause is twice the one before."""

LONGEST_PAUSE = 60.0

LATE_SECONDS = 600.0
"""How long after its close a bar may still come: what is later than that was not traded."""


@public
class Clock(Protocol):
    """What time it is, and how to let it pass."""

    def now(self) -> float:
        """Epoch seconds."""

    def wait(self, seconds: float) -> None:
        """Return that much later."""


class SystemClock:
    """The clock of this machine."""

    def now(self) -> float:
        """Epoch seconds."""
        return time.time()

    def wait(self, seconds: float) -> None:
        """Sleep; an exception that a signal raises ends it at once."""
        time.sleep(seconds)


@dataclass
class Pace:
    """How long to wait before the source is asked again.

    Attributes:
        interval: of the bars, and their grid.
        delay: seconds after the close of a bar at which it is asked for first.
        pause: seconds until a bar that is late is asked for again.
    """

    interval: Interval
    delay: float
    pause: float = FIRST_PAUSE

    def choose_wait(self, now: float, known: int | None) -> float:
        """Seconds to wait.

        Until the next bar has closed where all bars are known that have, or the last one is later
        than bars ever are; else a pause, which grows as long as nothing comes, and never beyond
        that.

        Args:
            now: epoch seconds.
            known: where the last known bar closes; None if nothing could be asked.
        """
        closed = floor_to(now - self.delay, self.interval)
        due = max(0.0, closed + self.interval + self.delay - now)
        if known is not None and (known >= closed or now >= closed + LATE_SECONDS):
            self.pause = FIRST_PAUSE
            return due
        pause, self.pause = self.pause, min(2 * self.pause, LONGEST_PAUSE)
        return min(pause, due)
