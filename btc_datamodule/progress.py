"""Progress of long steps: one bar for each, wherever a person watches.

``show_step`` is how every room shows one: on a terminal and in a notebook; elsewhere, and for a
step of less than ``DELAY`` seconds, nothing is printed. A bar stays below 100 % until the step is
over, since what comes after the last piece (a sync, a rename) may take long too, and its clock
runs on while nothing is counted.

Importing this module is cheap: tqdm loads with the first bar that is shown.
"""

import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from btc_datamodule.escaping import escape

DELAY = 1.0
"""Seconds that a step takes at least before anything is shown of it."""

TICK = 0.5
"""Seconds after which a bar is drawn again while nothing is counted."""

COUNTED = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{unit}, {remaining} left{postfix}"
UNCOUNTED = "{desc}: {elapsed}{postfix}"

_T = TypeVar("_T")


class Step:
    """A step under way. Threads may count in it at the same time.

    Args:
        bar: of tqdm; None where nobody watches.
        total: how much there is to do, None where that is not known.
    """

    def __init__(self, bar: Any, total: int | None) -> None:
        self._bar = bar
        self._total = total
        self._done = 0
        self._told = ""
        self._turn = threading.Lock()

    def advance(self, amount: int, told: str | None = None) -> None:
        """Count what has been done since the last call.

        Args:
            amount: in the unit of the step.
            told: what stands after the bar from here on; None for what stood there before.
        """
        with self._turn:
            self._done += amount
            self._told = self._told if told is None else escape(told)
        self.draw()

    def draw(self) -> None:
        """Draw the bar as it is, if it is due."""
        if self._bar is None:
            return
        with self._turn:
            self._bar.n = self._done
            if self._total is not None:  # below 100 % until all is over
                self._bar.n = min(self._done, self._total - max(1, self._total // 100))
            self._bar.set_postfix_str(self._told, refresh=False)
            self._bar.update(0)

    def finish(self) -> None:
        """Draw the bar as full: the step is over, and nothing went wrong."""
        if self._bar is not None and self._total is not None:
            with self._turn:
                self._bar.n = self._total
                self._bar.update(0)


@contextmanager
def show_step(label: str, total: int | None = None, unit: str = "") -> Iterator[Step]:
    """Show a bar while the body of the ``with`` runs, if a person watches.

    Args:
        label: what is being done, and of what.
        total: how much there is to do; None where that is not known: a clock is shown then.
        unit: of ``total``, such as " bars".
    """
    if not is_watched():
        yield Step(None, total)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without ipywidgets a notebook gets a bar of text
        from tqdm.auto import tqdm
    bar = tqdm(
        total=total,
        desc=escape(label),
        unit=unit,
        unit_scale=total is not None and total >= 1000,
        delay=DELAY,
        miniters=0,
        mininterval=TICK / 2,
        smoothing=0,  # drawn between two counts too, which would spoil a moving average
        dynamic_ncols=True,
        bar_format=UNCOUNTED if total is None else COUNTED,
    )
    step, over = Step(bar, total), threading.Event()

    def keep_drawing() -> None:
        while not over.wait(TICK):
            step.draw()

    clock = threading.Thread(target=keep_drawing, name="progress", daemon=True)
    clock.start()
    try:
        yield step
        step.finish()
    finally:
        over.set()
        clock.join()
        bar.close()


def show_each(things: Sequence[_T], label: str) -> Iterator[_T]:
    """Yield things one by one, and show how many are done; of a single one nothing is shown."""
    if len(things) < 2:
        yield from things
        return
    with show_step(label, len(things)) as step:
        for thing in things:
            yield thing
            step.advance(1)


def is_watched() -> bool:
    """Whether a person sees what is drawn: on a terminal, or in a notebook."""
    if sys.stderr is not None and sys.stderr.isatty():
        return True
    ipython = sys.modules.get("IPython")  # loaded wherever there is a notebook
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config
