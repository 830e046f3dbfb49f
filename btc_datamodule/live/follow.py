"""``follow``: a forecast for each new bar as it closes, without a gap and without a repeat.

The bars are brought up to date when the next one has closed; what ``predict`` would forecast of
them, and the file does not have yet, is forecast in order of time. A source that does not answer is
asked again and again; bars that came late, or while nothing could be asked, are made up for. Before
a forecast is given out it is on disk, so that whoever is stopped goes on where it was.
"""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from copy import copy
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from btc_datamodule.candles.timeline import (
    Instant,
    parse_instant,
)
from btc_datamodule.checks import check_whole_number
from btc_datamodule.datamodule import BTCDataModule
from btc_datamodule.disk.atomic import check_output
from btc_datamodule.disk.lock import PATIENCE_SECONDS, hold_lock
from btc_datamodule.errors import ConfigError, SourceError
from btc_datamodule.evaluation.targets import check_prices
from btc_datamodule.live.clock import LATE_SECONDS, Clock, Pace, SystemClock
from btc_datamodule.live.forecast import Forecast, list_forecasts
from btc_datamodule.live.identity import describe_maker
from btc_datamodule.live.output import SUFFIXES, ForecastFile
from btc_datamodule.live.serving import list_new, predict_windows
from btc_datamodule.opening import Choice
from btc_datamodule.public import public

log = logging.getLogger("btc_datamodule")

DELAY = 2.0
"""Seconds that exchanges commonly take to publish a bar that has closed."""


@public
def follow(
    dm: BTCDataModule,
    model: LightningModule,
    output: str | Path,
    *,
    trainer: Trainer | None = None,
    prices: bool | list[str] = False,
    since: Instant | None = None,
    bars: int | None = None,
    delay: float = DELAY,
    clock: Clock | None = None,
    unbroken: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Iterator[Forecast]:
    """Forecast each bar that closes, append to a file, and give the forecasts out one by one.

    The origins are those of ``predict``, and so are the forecasts, each window a batch of its own
    (bit for bit as with ``batch_size=1``). An origin that ``predict`` does not have, as at a bar
    that is absent, is passed over. A source that cannot answer is asked again, first after a
    second, later every minute.

    Args:
        dm: with the spans and statistics of training, as ``load_from_checkpoint`` gives it; it is
            not changed. With an ``end`` the bars up to it are forecast, and that is all.
        model: as trained.
        output: a file that ends in .csv, .parquet or .h5. If it is there, what it lacks is
            forecast: all origins after its last. It may be one of ``follow`` alone.
        trainer: whose device and precision are used, of one rank; None for one that says nothing.
        prices: see ``PredictionWriter``.
        since: where there is no file yet, the first origin to forecast; None for the newest.
        bars: how many forecasts to make; None for no end.
        delay: seconds after the close of a bar at which the source is asked for it.
        clock: what time it is; None for the clock of this machine.
        unbroken: a context in which forecasts are made and written, such as one in which signals
            wait.

    Yields:
        Each forecast, once it is on disk.

    Raises:
        ConfigError: if an argument is wrong, the file has other columns or was made by another
            model, or the candles have no train rows and ``dm`` is of no checkpoint.
        StoreError: if a file is damaged or cannot be written, or another process writes to it.
    """
    path = _check(dm, output, prices, bars, delay)
    first = None if since is None else parse_instant(since, "since") - 1
    trainer = trainer or Trainer(
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    if trainer.world_size != 1:
        raise ConfigError(f"follow needs one device, and the Trainer has {trainer.world_size}")
    return _follow(
        _Following(dm, clock or SystemClock(), delay),
        path,
        lambda dm, positions: predict_windows(trainer, model, dm, positions, prices),
        describe_maker(dm, model),
        first,
        bars,
        unbroken,
    )


def _check(
    dm: BTCDataModule, output: str | Path, prices: Any, bars: int | None, delay: float
) -> Path:
    path = check_output(output, SUFFIXES).absolute()
    if prices:
        check_prices(dm.target)
        if dm.settings.shape.gap:
            raise ConfigError(
                f"prices: with a gap of {dm.settings.shape.gap} the close that they are measured "
                "from is not known yet when a forecast is made: leave `prices` out, and call "
                "dm.to_prices once it is"
            )
    if not dm.state_dict():
        raise ConfigError(
            "follow needs the spans and statistics of training: give it a datamodule that was "
            "fitted, or `BTCDataModule.load_from_checkpoint(...)`"
        )
    if bars is not None:
        check_whole_number("bars", bars, 1)
    if not isinstance(delay, int | float) or not 0 <= delay < float("inf"):
        raise ConfigError(f"delay is {delay!r}: give seconds from 0 up")
    for name in ("offline", "refresh"):
        if getattr(dm, name):
            raise ConfigError(f"follow asks the source for what is new: leave `{name}` out")
    return path


def _follow(
    following: "_Following",
    path: Path,
    predict: Callable[[BTCDataModule, list[int]], Any],
    made_by: dict[str, str],
    first: int | None,
    bars: int | None,
    unbroken: Callable[[], AbstractContextManager[Any]],
) -> Iterator[Forecast]:
    with ExitStack() as stack:
        lock = path.with_name(f"{path.name}.lock")
        stack.enter_context(hold_lock(lock, PATIENCE_SECONDS, setting="output"))
        file, count = ForecastFile.open(path, made_by), 0
        while True:
            chunks: list[list[int]] = []
            if following.update():
                windows = following.dm.dataset("predict")
                chunks = list_new(windows, first if file.last is None else file.last)
            for chunk in chunks:
                left = len(chunk) if bars is None else bars - count
                with unbroken():
                    columns = predict(following.dm, chunk[:left])
                    file.append(columns)
                found = list_forecasts(columns)
                count += len(found)
                yield from found
                if count == bars:
                    return
            if following.is_over():
                return
            following.wait()


class _Following:
    """The bars of a datamodule, brought up to date as time passes."""

    def __init__(self, dm: BTCDataModule, clock: Clock, delay: float) -> None:
        self.dm = copy(dm)
        self.dm.trainer = None
        self.clock = clock
        self.pace = Pace(dm.settings.interval, delay)
        self.known: int | None = None
        self._opened: Choice | None = None
        self._told: set[str] = set()
        self._is_silent = False

    def update(self) -> bool:
        """Fetch what is new, and open it; False if there is nothing new, or no answer."""
        try:
            told, table = self.dm.prepare_quietly()
        except SourceError as error:
            self.known = None
            if not self._is_silent:
                log.warning("%s; it is asked again until it answers", error)
            self._is_silent = True
            return False
        if self._is_silent:
            log.info("the source answers again")
        self._is_silent = False
        self._tell(told)
        is_new = table != self._opened
        if is_new:
            self.dm.setup("predict")
            self._opened = table
        self.known = self.dm.table.span[1]
        return is_new

    def is_over(self) -> bool:
        """Whether all bars up to ``end`` are there, or will not come any more."""
        end = self.dm.settings.end
        if end is None or self.known is None:
            return False
        return self.known > end - self.dm.interval or self.clock.now() >= end + LATE_SECONDS

    def wait(self) -> None:
        """Wait until it is worth while to ask again."""
        self.clock.wait(self.pace.choose_wait(self.clock.now(), self.known))

    def _tell(self, said: list[str]) -> None:
        """Say each note once, until another update does not have it."""
        notes = {re.sub(r"\d+", "", line): line for line in said if line.startswith("note:")}
        for kind, line in notes.items():
            if kind not in self._told:
                log.info(line)
        self._told = set(notes)
