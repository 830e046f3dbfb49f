"""matplotlib, where it is not installed; and the methods of a datamodule."""

from typing import Any

import pytest
from matplotlib.figure import Figure

from btc_datamodule import BTCDataModule, ConfigError, NotPreparedError
from btc_datamodule.pictures import needed
from tests.pictures.conftest import Make
from tests.pictures.words import make_axes, make_figure

METHODS: dict[str, tuple[Any, ...]] = {
    "plot_timeline": (),
    "plot_holes": (),
    "plot_folds": (),
    "plot_batch": (),
    "plot_features": (),
    "plot_forecasts": ({},),
}


@pytest.mark.parametrize("method", METHODS)
def test_without_matplotlib_one_line_says_how_to_get_it(
    make: Make, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needed, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="pip install matplotlib"):
        getattr(make("once"), method)(*METHODS[method])


@pytest.mark.parametrize("method", METHODS)
def test_before_setup_it_says_what_comes_next(method: str) -> None:
    with pytest.raises(NotPreparedError, match=r"setup\(\)"):
        getattr(BTCDataModule(), method)(*METHODS[method])


@pytest.mark.parametrize("method", ["plot_timeline", "plot_holes", "plot_folds"])
def test_axes_in_figure_out(make: Make, method: str) -> None:
    axes = make_axes()
    assert getattr(make("once"), method)(ax=axes) is axes.figure


@pytest.mark.parametrize("method", ["plot_batch", "plot_features"])
def test_figure_in_figure_out(make: Make, method: str) -> None:
    figure = make_figure()
    assert getattr(make("once"), method)(fig=figure) is figure


@pytest.mark.parametrize("method", list(METHODS)[:5])
def test_nothing_in_a_new_figure_out(make: Make, method: str) -> None:
    figure: Any = getattr(make("once"), method)()
    assert isinstance(figure, Figure)
    assert figure.axes
