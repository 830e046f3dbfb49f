"""What the next feature set over the same candles costs: processor seconds and bytes on disk.

A candle file of ``--rows`` minutes is made in ``--folder``. Then ``--sets`` feature files are built
of it, as a search over features does: each has five features that all have, and one of its own.
Each is built in two ways, in turns: beside those that are there already, or alone, as if it were
the first. Both give the same bits.

    python benchmarks/feature_sets.py --folder /tmp/sets
"""

import argparse
import tempfile
from pathlib import Path

from newest_features import START, count_bytes, make_candles, measure, write

from btc_datamodule.features.build import build
from btc_datamodule.features.builtin import resolve
from btc_datamodule.features.recipe import Recipe
from btc_datamodule.features.table import Table

SHARED = ("log_return", "log_range", "log_volume", "volatility", "day_sin")


def main() -> None:
    """Print a line for each feature set: what it costs beside others, and alone."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=4_350_000, help="minutes")
    parser.add_argument("--sets", type=int, default=10)
    parser.add_argument("--folder", type=Path, help="where files are made and kept")
    given = parser.parse_args()
    candles = make_candles(given.rows).slice(START, START + 60 * given.rows)
    print(f"{'set':>3} {'beside others':>24} {'alone':>24}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        beside, alone = (folder / name / "candles.h5" for name in ("beside", "alone"))
        for path in (beside, alone):
            write(path, candles)
        for number in range(1, given.sets + 1):
            own = f"own = close / close.rolling_mean({10 * number}) - 1"
            recipe = Recipe(resolve((*SHARED, own)), 3, (0, 1 << 40))
            for old in alone.parent.glob("features-*.h5"):
                old.unlink()
            told, digests = [], set()
            for path in (beside, alone):
                seconds, size = measure(path, recipe)
                told.append(f"{seconds:8.2f} s {size / 1e6:10,.1f} MB")
                digests.add(Table.open(build(path, recipe)).digest)
            assert len(digests) == 1
            print(f"{number:>3} {told[0]:>24} {told[1]:>24}", flush=True)
        print(f"{count_bytes(beside.parent) / 1e6:,.0f} MB on disk of all, beside each other")


if __name__ == "__main__":
    main()
