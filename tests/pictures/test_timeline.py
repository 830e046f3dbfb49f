"""The timeline: what is drawn and written."""

from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex

from btc_datamodule.overview.colours import OUTAGE, STAGE_COLOURS
from btc_datamodule.overview.spans import list_outages
from btc_datamodule.pictures.figures import to_days
from btc_datamodule.pictures.timeline import plot_timeline
from tests.pictures.conftest import Make
from tests.pictures.words import SIZES, assert_readable, make_axes, words_of


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["walk", "paths", "few"])
def test_words_can_be_read(make: Make, name: str, size: tuple[float, float]) -> None:
    axes = make_axes(size)
    figure: Any = plot_timeline(make(name).stages, axes)
    assert figure is axes.figure
    assert_readable(figure)


def test_it_says_what_is_seen(make: Make) -> None:
    dm = make("walk")
    said = words_of(plot_timeline(dm.stages, make_axes(SIZES[1])))
    assert "BTC simulated (seed 1), 1 h bars, 2021-03-01 to 2021-04-01, fold 1 (of 0 to" in said
    for stage in ("train", "val", "test"):
        assert f"{stage}: {len(dm.dataset(stage)):,} windows" in said
    for word in ("purge", "price (USD)", "time (UTC)", f"{len(list_outages(dm.table))} outages"):
        assert word in said
    assert "$" in said
    assert "times" not in said  # of 6 times 10 to the power of 4


def test_every_outage_and_stage_is_drawn_at_its_time_and_can_be_seen(make: Make) -> None:
    dm = make("once")
    axes = make_axes()
    plot_timeline(dm.stages, axes)
    outages = list_outages(dm.table)
    assert len(outages) >= 2
    filled: list[Any] = [each for each in axes.collections if len(each.get_facecolor())]
    boxes = {to_hex(e.get_facecolor()[0]): e for e in filled if e.get_alpha() is None}
    drawn = boxes[OUTAGE.light]
    edges = [(path.vertices[:, 0].min(), path.vertices[:, 0].max()) for path in drawn.get_paths()]
    np.testing.assert_allclose(edges, to_days(outages))
    assert min(drawn.get_linewidths()) >= 1  # points, in any size
    (val,) = boxes[STAGE_COLOURS["val"].light].get_paths()
    np.testing.assert_allclose(
        [val.vertices[:, 0].min(), val.vertices[:, 0].max()], to_days(dm.fold.val[0])
    )
    np.testing.assert_allclose(axes.get_xlim(), to_days(dm.table.span))
    low, high = axes.get_ylim()
    assert low < np.nanmin(dm.table.bars("low")) < np.nanmax(dm.table.bars("high")) < high


def test_few_bars_are_a_line_through_their_closes(make: Make) -> None:
    dm = make("few")
    axes = make_axes()
    plot_timeline(dm.stages, axes)
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_ydata(), dm.table.bars("close"))
    np.testing.assert_allclose(np.asarray(line.get_xdata())[-1], to_days(dm.table.span[1]))


def test_nothing_global_changes(make: Make) -> None:
    before = dict(mpl.rcParams)
    plot_timeline(make("once").stages, make_axes())
    assert dict(mpl.rcParams) == before
