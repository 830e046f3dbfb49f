"""Windows as they are drawn: candles, cells of x, targets, and ages of covariates."""

import re
from dataclasses import replace

import numpy as np

from btc_datamodule.overview.window import NEVER
from btc_datamodule.report.facts import Facts
from btc_datamodule.report.samples import SHADES, make_samples, shade_inputs


def test_each_window_has_its_bars_inputs_and_targets(facts: Facts) -> None:
    made = make_samples(facts)
    count = len(facts.samples)
    assert made.count("<details") == made.count("<option") == count
    assert made.count(" open>") == 1
    assert made.count("data:image/png;base64,") == count
    sample = facts.samples[0].window
    first = re.findall(r"<details.*?</details>", made, re.DOTALL)[0]
    bodies = re.findall(r'd="([^"]*)" class="body \w+"', first)
    known = np.isfinite(sample.prices).all(axis=0).sum()
    assert sum(each.count("M") for each in bodies) == known
    assert first.count('scope="row"') == sample.y.size + 2  # and one covariate, at two bars


def test_cells_are_darker_the_larger_they_are_and_grey_where_not_observed(facts: Facts) -> None:
    window = facts.samples[0].window
    x = np.array([[-9, -3], [0, 3], [np.nan, 99]], dtype=np.float32)
    seen = np.array([[True, True], [True, True], [True, False]])
    shades = shade_inputs(window._replace(x=x, observed=seen))
    assert shades.tolist() == [
        [0, (SHADES - 1) // 2 + 1, (SHADES - 1) // 2 + 1],
        [0, SHADES - 1, SHADES],
    ]


def test_a_long_window_has_a_column_for_some_of_its_bars(facts: Facts) -> None:
    window = facts.samples[0].window
    x = np.zeros((5000, 1), dtype=np.float32)
    assert shade_inputs(window._replace(x=x, observed=x == 0)).shape == (1, 360)


def test_a_covariate_that_nobody_knew_yet_is_nothing(facts: Facts) -> None:
    sample = facts.samples[0]
    (known,) = sample.window.known
    none = np.full(len(known.time), NEVER)
    gone = known._replace(time=none, known_at=none, age=np.full(len(none), np.nan))
    window = sample.window._replace(known=(gone,))
    made = make_samples(replace(facts, samples=(sample._replace(window=window),)))
    assert made.count("<td>nothing</td>") == 2


def test_a_transform_is_told(facts: Facts) -> None:
    given = replace(facts, has_transform=True)
    assert "changes their shape" in make_samples(given)
    samples = tuple(
        each._replace(window=each.window._replace(is_transformed=True)) for each in facts.samples
    )
    assert "are what `transform` makes of them" in make_samples(replace(given, samples=samples))


def test_without_windows_the_section_says_so(facts: Facts) -> None:
    assert "No stage has a window" in make_samples(replace(facts, samples=()))
