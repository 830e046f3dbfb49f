"""What tests do with candles: write them to a file, take their digest, compare them."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from btc_datamodule.candles.digest import ContentDigest
from btc_datamodule.candles.series import Candles
from btc_datamodule.candles.timeline import Span
from btc_datamodule.store.candle_file import write_candles
from btc_datamodule.store.series_file import Provenance


def digest_of(*blocks: Candles) -> str:
    digest = ContentDigest(blocks[0].interval)
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def write(
    path: Path,
    *blocks: Candles,
    covered: Iterable[Span] = (),
    provenance: Iterable[Provenance] = (),
    compress: bool = True,
) -> Path:
    """A candle file of the blocks."""
    write_candles(
        path,
        blocks,
        source="test",
        series="BTC",
        interval=blocks[0].interval,
        columns={name for block in blocks for name in block.columns},
        covered=covered,
        revision="",
        provenance=provenance,
        compress=compress,
    )
    return path


def assert_same(a: Candles, b: Candles) -> None:
    """The same bars bit for bit, in the same columns."""
    assert a.interval == b.interval
    assert set(a.columns) == set(b.columns)
    for name in a.columns:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
