"""The palette: colours that differ for people who see fewer of them, and in grey."""

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from btc_datamodule.overview.colours import OUTAGE, STAGE_COLOURS, pick_series

# Viénot, Brettel and Mollon (1999): linear RGB as seen without red or without green cones.
PROTAN = [[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]]
DEUTAN = [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]]


def to_lab(colour: str, seen: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIE L*a*b* of a colour through one's eyes."""
    rgb = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = (seen @ linear).clip(0, 1)
    xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    ) @ linear / np.array([0.9505, 1.0, 1.089])  # fmt: skip
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("seen", [np.eye(3), PROTAN, DEUTAN], ids=["all", "protan", "deutan"])
@pytest.mark.parametrize("ground", ["light", "dark"])
def test_stages_and_outages_can_be_told_apart_by_everybody(ground: str, seen: object) -> None:
    colours = [getattr(each, ground) for each in (*STAGE_COLOURS.values(), OUTAGE)]
    labs = [to_lab(each, np.array(seen)) for each in colours]
    nearest = min(float(np.linalg.norm(a - b)) for a, b in combinations(labs, 2))
    assert nearest > 15  # 2.3 is a just noticeable difference


def test_series_have_colours_over_again() -> None:
    assert len({pick_series(number) for number in range(6)}) == 6
    assert pick_series(6) == pick_series(0)
