"""The map of folds."""

from typing import Any

import pytest

from btc_datamodule.overview.folds import map_folds
from btc_datamodule.pictures.folds import plot_folds
from tests.pictures.conftest import Make
from tests.pictures.words import SIZES, assert_readable, make_axes, words_of


@pytest.mark.parametrize(
    ("name", "size"), [("once", SIZES[0]), ("steps", SIZES[0]), ("paths", SIZES[0])]
)
def test_words_can_be_read(make: Make, name: str, size: tuple[float, float]) -> None:
    assert_readable(plot_folds(make(name).stages, make_axes(size)))


def test_every_fold_has_a_row_and_the_one_in_use_is_bold(make: Make) -> None:
    dm = make("walk")
    axes = make_axes(SIZES[1])
    figure: Any = plot_folds(dm.stages, axes)
    said = words_of(figure)
    assert f"{dm.n_folds} folds of WalkForward" in said
    labels = {label.get_text(): label.get_fontweight() for label in axes.get_yticklabels()}
    assert list(labels) == [str(fold) for fold in range(dm.n_folds)]
    assert [text for text, weight in labels.items() if weight == "bold"] == ["1"]
    assert len(axes.collections) == 4 * dm.n_folds  # the stages, and what is purged of two
    assert [each.get_text() for each in axes.get_legend().get_texts()] == [
        *("train", "val", "test", "purge")
    ]


def test_each_group_of_a_test_names_the_path_that_its_forecasts_join(make: Make) -> None:
    dm = make("paths")
    axes = make_axes(SIZES[1])
    plot_folds(dm.stages, axes)
    found = map_folds(dm.stages)
    assert found.paths is not None
    assert len(axes.texts) == found.paths.size == 2 * dm.n_folds
    for path, folds in enumerate(found.paths.tolist(), 1):
        shown = [
            round(each.get_position()[1]) for each in axes.texts if each.get_text() == str(path)
        ]
        assert sorted(shown) == sorted(folds)
