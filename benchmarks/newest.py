"""What one new bar costs: processor seconds and bytes written, of a series of years of minutes.

A candle file of ``--rows`` minutes is made once and kept in ``--folder``. Then bars are added one
at a time by a source that answers from memory, as ``update`` adds them: to the tail of the file,
and, with ``--whole``, by writing all of it, which is how every bar was added before there were
tails. Both in turns, each on a copy of its own. Of the seconds the start of the process is left
out. Bytes are those handed to the system (``wchar`` of ``/proc/self/io``), all files together; on
other systems they are left out.

    python benchmarks/newest.py --folder /tmp/newest --whole
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from unittest import mock

import numpy as np

from btc_datamodule.candles.series import Candles
from btc_datamodule.candles.timeline import Span, parse_instant
from btc_datamodule.sources.base import Block, Source
from btc_datamodule.store import tail
from btc_datamodule.store.candle_file import read_header
from btc_datamodule.store.update import update

MINUTE = 60
START = parse_instant("2017-01-01")


@dataclass(frozen=True, eq=False)
class FromMemory(Source):
    """Answers with the bars of ``candles``."""

    candles: Candles

    name: ClassVar[str] = "memory"

    @property
    def series(self) -> str:
        """The only one."""
        return "newest"

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        """One answer for all of a span."""
        yield Block(span, self.candles.slice(*span), "memory")


def make_candles(rows: int) -> Candles:
    """Minutes of prices and volumes in decimals, with all columns."""
    rng = np.random.default_rng(19)
    close = np.round(20_000 * np.exp(np.cumsum(rng.normal(0, 3e-4, rows))), 2)
    opened = np.concatenate([close[:1], close[:-1]])
    spread = np.round(rng.exponential(3.0, (2, rows)), 2)
    volume = np.round(rng.gamma(0.5, 20.0, rows), 5)
    return Candles(
        MINUTE,
        {
            "open_time": START + MINUTE * np.arange(rows),
            "open": opened,
            "high": np.maximum(opened, close) + spread[0],
            "low": np.maximum(np.minimum(opened, close) - spread[1], 0.01),
            "close": close,
            "volume": volume,
            "quote_volume": np.round(volume * close, 2),
            "trades": rng.poisson(80, rows).astype(float),
            "taker_buy_volume": np.round(volume / 2, 5),
        },
    )


@dataclass
class Series:
    """A series on disk that bars are added to, one at a time.

    Attributes:
        path: its candle file.
        source: which has more bars.
        end: instant up to which it is there.
    """

    path: Path
    source: FromMemory
    end: int

    def add_bar(self) -> None:
        """Bring it up to date by one bar."""
        self.end += MINUTE
        found = update(self.path, self.source, MINUTE, START, self.end)
        assert found.added == 1


def open_series(folder: Path, name: str, source: FromMemory, rows: int) -> Series:
    """A copy of the file of ``rows`` bars, which is made if it is not there."""
    made, end = folder / f"{rows}" / "candles.h5", START + rows * MINUTE
    if not made.exists():
        update(made, source, MINUTE, START, end)
    path = folder / name / "candles.h5"
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir()
    shutil.copy(made, path)
    return Series(path, source, end)


def count_written() -> float:
    """Bytes that this process has written so far; NaN where the system does not tell."""
    counts = Path("/proc/self/io")
    if not counts.exists():
        return float("nan")
    told = dict(line.split(": ") for line in counts.read_text().splitlines())
    return float(told["wchar"])


def measure(series: Series, bars: int, *, whole: bool) -> tuple[float, float]:
    """Processor seconds and bytes written of a bar."""
    least = 1 << 62 if whole else tail.LARGE_ROWS
    with mock.patch.object(tail, "LARGE_ROWS", least):
        written, spent = count_written(), time.process_time()
        for _ in range(bars):
            series.add_bar()
        return (time.process_time() - spent) / bars, (count_written() - written) / bars


def main() -> None:
    """Print a table of what a bar costs in each way."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=4_350_000, help="minutes that are there before")
    parser.add_argument("--bars", type=int, default=50, help="that are added to the tail a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where files are made and kept")
    parser.add_argument("--whole", action="store_true", help="measure writing all of it, too")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        source = FromMemory(make_candles(given.rows + given.rounds * (given.bars + 1)))
        ways = {"a bar into the tail": (False, given.bars)}
        if given.whole:
            ways["a bar, all written anew"] = (True, 1)
        opened = {
            way: open_series(folder, f"way {number}", source, given.rows)
            for number, way in enumerate(ways)
        }
        found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for _ in range(given.rounds):
            for way, (whole, bars) in ways.items():
                found[way].append(measure(opened[way], bars, whole=whole))
        rows = {way: read_header(series.path).rows for way, series in opened.items()}
    print(f"{'':<26}{'rows':>11}{'best s':>10}{'median s':>10}{'bytes':>14}")
    for way, rounds in found.items():
        seconds, written = zip(*rounds, strict=True)
        print(
            f"{way:<26}{rows[way]:>11,}{min(seconds):>10.3f}{statistics.median(seconds):>10.3f}"
            f"{statistics.mean(written):>14,.0f}"
        )


if __name__ == "__main__":
    main()
