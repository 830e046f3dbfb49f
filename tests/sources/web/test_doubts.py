"""What can be no answer to a question is told from what may be one."""

import numpy as np
import pytest

from btc_datamodule.sources.web.doubts import CERTAIN, LIKELY, find_fault, find_longer
from tests.factories import HOUR, T0

SPAN = (T0, T0 + 300 * HOUR)
PAGE = np.arange(*SPAN, HOUR, dtype=np.float64)
OFFERED = (60, 300, 900, HOUR, 6 * HOUR, 86_400)


def test_rows_of_the_span_are_an_answer_with_or_without_others() -> None:
    for times in (PAGE, PAGE[:1], PAGE[::-1], np.concatenate([PAGE - 1000 * HOUR, PAGE]), PAGE[:0]):
        assert find_fault(times, HOUR, SPAN) == ""


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (PAGE * 1000, "its times look like milliseconds, such as 1578913200000"),
        (PAGE * 10**6, "its times look like microseconds, such as 1578913200000000"),
        (np.append(PAGE, PAGE[0] * 1000), "its times look like milliseconds, such as 1577836800"),
        (PAGE + 300 * HOUR, "300 rows of 2020-01-13T12:00:00Z to 2020-01-25T23:00:00Z, none of"),
        (np.array([T0 - 2.0 * HOUR]), "1 rows of 2019-12-31T22:00:00Z to 2019-12-31T22:00:00Z, no"),
        (T0 + 60.0 * np.arange(300), "295 of 300 rows open off the grid of 1h, its bars are 1m a"),
        (np.array([T0 + 60.0]), "1 of 1 rows open off the grid of 1h"),
    ],
)
def test_rows_that_are_no_answer_are_told_by_what_they_are(
    times: np.ndarray[tuple[int], np.dtype[np.float64]], said: str
) -> None:
    assert find_fault(times, HOUR, SPAN).startswith(said)


def test_bars_next_to_the_span_and_a_few_off_the_grid_are_no_fault() -> None:
    assert find_fault(np.array([SPAN[0] - HOUR, SPAN[1]], dtype=np.float64), HOUR, SPAN) == ""
    assert find_fault(np.append(PAGE[1:], T0 + 7), HOUR, SPAN) == ""


def test_longer_bars_are_found_with_the_odds_against_chance() -> None:
    assert find_longer(PAGE, HOUR, OFFERED) == (0, 1.0)
    assert find_longer(PAGE[:0], HOUR, OFFERED) == (0, 1.0)
    assert find_longer(PAGE[::24], HOUR, OFFERED) == (86_400, 24.0**13)
    assert find_longer(PAGE[[0, 6, 6, 0]], HOUR, OFFERED) == (6 * HOUR, 36.0)
    assert find_longer(PAGE[:1], 60, OFFERED) == (86_400, 1440.0)
    assert find_longer(PAGE[::24], 86_400, OFFERED) == (0, 1.0)
    assert 24.0**5 > CERTAIN > 24.0**4 > LIKELY
