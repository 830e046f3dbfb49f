"""``TargetContract``: what windows and prices rely on when they ask a target."""

from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from btc_datamodule.evaluation.targets import IGNORED, Target, to_numbers
from btc_datamodule.features.layout import BAR_COLUMNS
from btc_datamodule.testing.contracts.values import ValueContract, check_equal

SAMPLES = 6
STILL = 4
"""Which of the samples is a market that stands still: one price, no volume."""

Floats = NDArray[np.floating]


class TargetContract(ValueContract[Target]):
    """Tests of a ``Target``: derive a class whose name begins with Test, and say what to test.

        class TestMyTarget(TargetContract):
            def make(self):
                return MyTarget(threshold=0.01)

    Attributes:
        horizons: numbers of target bars to try.
    """

    argument: ClassVar[str] = "target"
    kind: ClassVar[type] = Target

    horizons: ClassVar[tuple[int, ...]] = (1, 2, 5, 24)

    def observe(self, made: Target) -> Any:
        """Its columns, its reference bars, its shapes and its values."""
        size = made.columns, get_reference_bars(made)
        return size, [
            (made.shape(horizon), made(make_bars(made, horizon))) for horizon in self.horizons
        ]

    def expect_prices(self, bars: NDArray[np.float64], horizon: int) -> Floats | None:
        """What ``prices`` must give for the targets of some bars.

        Override it for prices that are no bar's own, such as a mean.

        Args:
            bars: (B, reference bars + H, 5) float64: open, high, low, close and volume.
            horizon: H.

        Returns:
            (B, ...), or None for any prices of target bars, each of a bar of its own sample.
        """
        return None

    # --- what is known without data -------------------------------------------------------------

    def test_its_columns_and_reference_bars_are_such_as_there_are(self) -> None:
        """They say which bars it is called with."""
        target = self.make()
        columns = target.columns
        known = isinstance(columns, tuple) and columns and set(columns) <= set(BAR_COLUMNS)
        assert known, f"columns are {columns!r}: give a tuple of {', '.join(BAR_COLUMNS)}"
        bars = get_reference_bars(target)
        counted = type(bars) is int and bars >= 0
        assert counted, f"reference_bars is {bars!r}: give a whole number from 0 up"

    def test_its_shape_is_known_without_data(self) -> None:
        """It sizes the model, and its last axis what is scaled."""
        target = self.make()
        for horizon in self.horizons:
            shape = target.shape(horizon)
            typed = isinstance(shape, tuple) and all(type(size) is int for size in shape)
            usable = typed and (shape or target.n_classes) and min(shape, default=1) > 0
            assert usable, (
                f"shape({horizon}) is {shape!r}: give a tuple of whole numbers above 0, at least "
                "one; (1,) for a single number, () for a single class"
            )
            assert target.shape(horizon) == shape == self.make().shape(horizon), (
                f"shape({horizon}) is not the same each time"
            )

    def test_batches_of_any_size_have_that_shape(self) -> None:
        """A batch of none among them."""
        target = self.make()
        for horizon in self.horizons:
            for size in (0, 1, SAMPLES):
                y = target(make_bars(target, horizon)[:size])
                due = (size, *target.shape(horizon))
                shaped = isinstance(y, np.ndarray) and y.shape == due
                assert shaped, (
                    f"{size} samples of horizon {horizon} gave "
                    f"{getattr(y, 'shape', type(y).__name__)}, and shape says {due}"
                )
                if target.n_classes is None:
                    assert np.issubdtype(y.dtype, np.floating), (
                        f"targets are {y.dtype}: give floating numbers, which can say NaN, or say "
                        "how many classes there are (`n_classes`)"
                    )
                else:
                    assert np.issubdtype(y.dtype, np.integer), (
                        f"targets are {y.dtype}: give whole numbers, as it has `n_classes`"
                    )

    def test_its_classes_are_counted_from_0(self) -> None:
        """``cross_entropy`` takes them as places in a row of logits."""
        target = self.make()
        if target.n_classes is None:
            pytest.skip("it is no target of classes: its `n_classes` is None")
        counted = type(target.n_classes) is int and target.n_classes >= 2
        assert counted, f"n_classes is {target.n_classes!r}: give a whole number from 2 up"
        for horizon in self.horizons:
            y = target(make_bars(target, horizon))
            assert ((y >= 0) & (y < target.n_classes)).all(), (
                f"classes are {np.unique(y).tolist()}: give numbers from 0 to "
                f"{target.n_classes - 1}, n_classes - 1"
            )

    # --- what it depends on ---------------------------------------------------------------------

    def test_known_bars_give_finite_numbers(self) -> None:
        """A sample with every bar known is trained on."""
        target = self.make()
        for horizon in self.horizons:
            y = to_numbers(target(make_bars(target, horizon))).astype(np.float32)
            for sample in range(SAMPLES):
                what = "a market that stands still" if sample == STILL else f"sample {sample}"
                assert np.isfinite(y[sample]).all(), (
                    f"{what}, horizon {horizon}, every bar of it known, gives {y[sample]}: a loss "
                    "over it would be NaN or infinite"
                )

    def test_bars_that_are_not_known_give_nan_or_do_not_matter(self) -> None:
        """In ``predict`` the future is not known: NaN bars, NaN targets."""
        target = self.make()
        for horizon in self.horizons:
            bars = make_bars(target, horizon)
            y = to_numbers(target(bars))
            for at in range(bars.shape[1]):
                for end, what in ((at + 1, f"bar {at}"), (bars.shape[1], f"bars from {at} on")):
                    holed = bars.copy()
                    holed[:, at:end] = np.nan
                    check_close(
                        *drop_unknown(to_numbers(target(holed)), y),
                        f"with {what} of {bars.shape[1]} not known (NaN) it gives a number, and "
                        "another one than with all known: it is made up",
                    )
            unknown = target(np.full_like(bars, np.nan))
            due = "NaN" if target.n_classes is None else f"{IGNORED}"
            assert np.isnan(to_numbers(unknown)).all(), (
                f"with no bar known it gives {unknown[0]}, not {due}: it is made up"
            )

    def test_each_sample_is_by_itself(self) -> None:
        """Batches are shuffled; a sample must not know its neighbours."""
        target = self.make()
        for horizon in self.horizons:
            bars = make_bars(target, horizon)
            y = to_numbers(target(bars))
            order = np.random.default_rng(1).permutation(SAMPLES)
            check_close(
                to_numbers(target(bars[order])),
                y[order],
                "targets depend on the order of the samples",
            )
            for sample in range(SAMPLES):
                alone = to_numbers(target(bars[sample : sample + 1]))
                check_close(
                    alone, y[sample : sample + 1], "targets depend on what else is in the batch"
                )

    def test_the_same_bars_give_the_same_targets(self) -> None:
        """It keeps nothing from one batch to the next."""
        target = self.make()
        for horizon in self.horizons:
            bars = make_bars(target, horizon)
            first = np.array(target(bars))
            target(make_bars(target, horizon, seed=1))
            for again in (target, self.make()):
                check_equal(again(bars), first, "the same bars give other targets the second time")

    def test_the_bars_are_not_written_to(self) -> None:
        """They may be a map of the feature file."""
        target = self.make()
        for horizon in self.horizons:
            bars = make_bars(target, horizon)
            kept = bars.copy()
            target(bars)
            check_equal(bars, kept, "it writes into the bars that it is given")

    # --- prices ---------------------------------------------------------------------------------

    def test_the_prices_of_its_targets_are_those_that_came(self) -> None:
        """``to_prices`` undoes it, where it is a target of prices."""
        target = self.make()
        if type(target).prices is Target.prices:
            pytest.skip("it is no target of prices: it does not define `prices`")
        for horizon in self.horizons:
            bars, close = make_market(target, horizon), get_reference_close(target, horizon)
            y = to_numbers(target(choose_columns(target, bars)))
            due = self.expect_prices(bars, horizon)
            found = target.prices(y, close)
            shaped = found.dtype == np.float64 and len(found) == SAMPLES
            assert shaped, f"prices are {found.dtype} of shape {found.shape}: give (B, ...) float64"
            if due is None:
                due = find_nearest(found, bars[:, -horizon:, :4])
            check_close(
                found,
                due,
                f"for horizon {horizon} the prices that its targets stand for are not those of "
                "the target bars",
            )
            check_close(
                target.prices(y.astype(np.float32), close),
                due,
                "with targets in float32, as batches have them, prices are off",
                relative=1e-5,
            )
            unknown = target.prices(y, np.full(SAMPLES, np.nan))
            assert np.isnan(unknown).all(), "with a close that is not known the prices are made up"


def get_reference_bars(target: Target) -> int:
    """Bars before the first target bar that a target is measured from."""
    return target.reference_bars


def make_market(target: Target, horizon: int, seed: int = 0) -> NDArray[np.float64]:
    """(SAMPLES, reference bars + H, 5) float64: valid bars, open, high, low, close and volume."""
    return _draw(target, horizon, seed)[:, 1:]


def get_reference_close(target: Target, horizon: int) -> NDArray[np.float64]:
    """(SAMPLES,) float64: closes of the bars right before the first target bars."""
    closes: NDArray[np.float64] = _draw(target, horizon, seed=0)[:, -horizon - 1, 3]
    return closes


def choose_columns(target: Target, market: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B, bars, len(columns)) float64: the columns that a target asks for, in its order."""
    return np.ascontiguousarray(market[:, :, [BAR_COLUMNS.index(n) for n in target.columns]])


def make_bars(target: Target, horizon: int, seed: int = 0) -> NDArray[np.float64]:
    """(SAMPLES, reference bars + H, len(columns)) float64: what a target is called with."""
    return choose_columns(target, make_market(target, horizon, seed))


def _draw(target: Target, horizon: int, seed: int) -> NDArray[np.float64]:
    """The market with one bar more at its start, for targets that are measured from none."""
    size = (SAMPLES, 1 + get_reference_bars(target) + horizon)
    rng = np.random.default_rng([seed, horizon])
    moves = rng.normal(0, np.geomspace(1e-4, 0.3, SAMPLES)[:, np.newaxis], size)
    wicks = np.abs(rng.normal(0, 0.01, (2, *size)))
    moves[STILL], wicks[:, STILL] = 0, 0
    close = 8000 * np.exp(np.cumsum(moves, axis=1))
    opened = np.concatenate([close[:, :1], close[:, :-1]], axis=1)
    volume = rng.exponential(10, size)
    volume[STILL] = 0
    high = np.maximum(opened, close) * np.exp(wicks[0])
    low = np.minimum(opened, close) * np.exp(-wicks[1])
    return np.stack([opened, high, low, close, volume], axis=2)


def drop_unknown(found: Floats, due: Floats) -> tuple[Floats, Floats]:
    """The values of both where ``found`` is a number."""
    known = ~np.isnan(found)
    return found[known], due[known]


def find_nearest(found: NDArray[np.float64], prices: NDArray[np.float64]) -> Floats:
    """Of each sample's prices those nearest to what was found: (B, ...) like ``found``."""
    flat, choices = found.reshape(len(found), -1, 1), prices.reshape(len(found), 1, -1)
    nearest = np.nan_to_num(np.abs(flat - choices), nan=np.inf).argmin(axis=2)
    return np.take_along_axis(choices[:, 0], nearest, axis=1).reshape(found.shape)


def check_close(found: Floats, due: Floats, problem: str, relative: float = 1e-9) -> None:
    """Raise ``AssertionError`` with ``problem`` unless two arrays are equal but for rounding."""
    try:
        np.testing.assert_allclose(found, due, rtol=relative, atol=1e-12)
    except AssertionError as error:
        raise AssertionError(f"{problem}\n{error}") from None
