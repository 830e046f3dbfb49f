"""The calendar of holes."""

from typing import Any

import numpy as np
import pytest
from matplotlib.collections import QuadMesh

from btc_datamodule.overview.holes import count_holes
from btc_datamodule.pictures.calendar import plot_holes
from tests.pictures.conftest import Make
from tests.pictures.words import SIZES, assert_readable, make_axes, words_of


@pytest.mark.parametrize("size", SIZES)
def test_each_cell_has_the_colour_of_its_share(make: Make, size: tuple[float, float]) -> None:
    dm = make("once")
    axes = make_axes(size)
    figure: Any = plot_holes(dm.stages, axes)
    assert_readable(figure)
    meshes: list[Any] = [each for each in axes.collections if isinstance(each, QuadMesh)]
    (mesh,) = meshes
    share = count_holes(dm.table).share
    np.testing.assert_array_equal(np.ma.getdata(mesh.get_array()).reshape(share.T.shape), share.T)
    full, empty = mesh.norm([1.0, 0.0])
    assert (full, empty) == (4, 0)
    said = words_of(figure)
    absent = dm.table.rows - dm.table.present
    assert f"{len(dm.table.holes)} holes, {absent} bars absent" in said.replace("\n", " ")
    for word in ("all bars", "less than 50 %", "hour of the day (UTC)", "06:00"):
        assert word in said


def test_where_nothing_is_absent_it_says_so(make: Make) -> None:
    said = words_of(plot_holes(make("few").stages, make_axes(SIZES[1])))
    assert ("no bar is absent" in said) == (len(make("few").table.holes) == 0)
