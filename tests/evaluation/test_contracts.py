"""Our targets and splits keep the contracts that anyone's must keep."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from btc_datamodule import (
    ClosePath,
    CombinatorialPurged,
    CumulativeReturn,
    DateSplit,
    Direction,
    FractionSplit,
    LogReturn,
    OHLCPath,
    RealisedVolatility,
    Split,
    Target,
    TripleBarrier,
    WalkForward,
)
from btc_datamodule.testing import SplitContract, TargetContract


class TestLogReturn(TargetContract):
    def make(self) -> Target:
        return LogReturn()

    def expect_prices(self, bars: NDArray[np.float64], horizon: int) -> NDArray[np.float64]:
        return bars[:, -horizon:, 3:4]


class TestCumulativeReturn(TargetContract):
    def make(self) -> Target:
        return CumulativeReturn()

    def expect_prices(self, bars: NDArray[np.float64], horizon: int) -> NDArray[np.float64]:
        return bars[:, -1, 3:4]


class TestOHLCPath(TargetContract):
    def make(self) -> Target:
        return OHLCPath()

    def expect_prices(self, bars: NDArray[np.float64], horizon: int) -> NDArray[np.float64]:
        return bars[:, -horizon:, :4]


class TestClosePath(TargetContract):
    def make(self) -> Target:
        return ClosePath()

    def expect_prices(self, bars: NDArray[np.float64], horizon: int) -> NDArray[np.float64]:
        return bars[:, -horizon:, 3:4]


class TestDirection(TargetContract):
    def make(self) -> Target:
        return Direction(dead_zone=0.001)


class TestDirectionAsClasses(TargetContract):
    def make(self) -> Target:
        return Direction(classes=True)


class TestDirectionWithADeadZoneAsClasses(TargetContract):
    def make(self) -> Target:
        return Direction(dead_zone=0.001, classes=True)


class TestTripleBarrierAsClasses(TargetContract):
    def make(self) -> Target:
        return TripleBarrier(up=1.5, down=1.0, volatility_bars=6, classes=True)


class TestRealisedVolatility(TargetContract):
    def make(self) -> Target:
        return RealisedVolatility()


class TestTripleBarrier(TargetContract):
    def make(self) -> Target:
        return TripleBarrier(up=1.5, down=1.0, volatility_bars=6)


class TestFractionSplit(SplitContract):
    def make(self) -> Split:
        return FractionSplit(val=0.2, test=0.1)


class TestDateSplit(SplitContract):
    anchored: ClassVar[bool] = True

    def make(self) -> Split:
        return DateSplit(val="2021-03-01T00:30", test="2021-08-01")


class TestDateSplitWithAnEnd(SplitContract):
    anchored: ClassVar[bool] = True

    def make(self) -> Split:
        return DateSplit(val="2021-03-01", test="2021-08-01", end="2021-10-01")


class TestWalkForward(SplitContract):
    anchored: ClassVar[bool] = True

    def make(self) -> Split:
        return WalkForward()


class TestWalkForwardOfAnyLengths(SplitContract):
    """Expanding, without validation, with boundaries between bars and tests that overlap."""

    anchored: ClassVar[bool] = True

    def make(self) -> Split:
        return WalkForward(train="90d", val=0, test="30h", step="700m", expanding=True)


class TestCombinatorialPurged(SplitContract):
    in_order: ClassVar[bool] = False

    def make(self) -> Split:
        return CombinatorialPurged()


class TestCombinatorialPurgedOfUnevenGroups(SplitContract):
    in_order: ClassVar[bool] = False
    interval = "5m"
    span = ("2020-01-01", "2020-01-02T07:35")

    def make(self) -> Split:
        return CombinatorialPurged(n_groups=7, n_test_groups=3, fold=-1)
