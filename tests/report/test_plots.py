"""Where the lines of a picture go."""

import re

import numpy as np

from btc_datamodule.report.plots import HEIGHT, WIDTH, Plot
from btc_datamodule.report.ticks import Tick


def paths(plot: Plot) -> list[str]:
    return [re.findall(r' d="([^"]*)"', part)[0] for part in plot.parts]


def test_the_box_is_filled_from_the_left_and_from_below() -> None:
    plot = Plot((10, 20), (0, 1), "all")
    plot.add_line(np.array([10, 15, 20]), np.array([0, 0.5, 1]), "train")
    assert paths(plot) == [f"M0 {HEIGHT:g}L500 150L{WIDTH:g} 0"]
    assert 'class="line train"' in plot.parts[0]


def test_a_logarithmic_axis_has_equal_steps_for_equal_ratios() -> None:
    plot = Plot((0, 1), (1, 10_000), "all", log=True)
    np.testing.assert_allclose(plot.place_y(np.array([1, 100, 10_000])), [HEIGHT, 150, 0])


def test_what_is_not_known_breaks_a_line_and_parts_a_band() -> None:
    x, y = np.arange(5.0), np.array([0, 1, np.nan, 1, 0])
    plot = Plot((0, 4), (0, 1), "all")
    plot.add_line(x, y, "a")
    plot.add_band(x, y / 2, y, "b")
    line, band = paths(plot)
    assert line.count("M") == 2
    assert band.count("z") == 2


def test_steps_begin_and_end_on_the_ground() -> None:
    plot = Plot((0, 2), (0, 1), "all")
    plot.add_steps(np.array([0.0, 1, 2]), np.array([1.0, 0.5]), "a")
    assert paths(plot) == ["M0 300L0 0L500 0L500 150L1000 150L1000 300"]


def test_boxes_are_cut_to_the_picture_and_never_too_thin_to_see() -> None:
    plot = Plot((0, 1000), (0, 1), "all")
    plot.add_boxes([(-50, 100), (500, 500.001), (2000, 3000)], "a", y=(0.5, 1))
    assert paths(plot) == ["M0 0H100V150H0zM500 0H500.5V150H500z"]


def test_candles_that_rise_and_fall_are_told_apart() -> None:
    plot = Plot((0, 3), (0, 10), "all")
    prices = np.array([[1, 5, np.nan], [6, 6, 6], [0, 2, 1], [5, 3, 2]], dtype=np.float64)
    plot.add_candles(np.array([0.5, 1.5, 2.5]), prices, 1)
    classes = [re.findall(r'class="([^"]*)"', part)[0] for part in plot.parts]
    assert classes == ["wick up", "body up", "wick down", "body down"]
    assert all(path.count("M") == 1 for path in paths(plot))


def test_words_are_html_beside_the_picture_and_marks_outside_are_left_out() -> None:
    plot = Plot((0, 10), (0, 1), 'a "label"')
    made = plot.render(
        [Tick(0, "<0>"), Tick(5, "5"), Tick(11, "11")], [Tick(0.5, "half")], x_title="x"
    )
    assert 'aria-label="a &quot;label&quot;"' in made
    assert 'style="left:0.00%" class="tick begin phone-begin">&lt;0&gt;' in made
    assert 'style="left:50.00%"' in made
    assert ">11<" not in made
    assert 'style="top:50.00%" class="tick">half' in made
    assert ">x<" in made


def test_marks_that_do_not_fit_are_left_out_first_of_all_on_a_phone() -> None:
    days = [Tick(at, "2020-01-01") for at in (0, 10 / 3, 20 / 3, 10)]
    made = Plot((0, 10), (0, 1), "p").render(days)
    sides = re.findall(r'class="tick (\w+) phone-(\w+)"', made)
    assert sides == [("begin", "none"), ("middle", "middle"), ("middle", "none"), ("end", "end")]
    many = [Tick(at / 10, "2020-01-01") for at in range(101)]
    assert 5 <= Plot((0, 10), (0, 1), "p").render(many).count("2020-01-01") <= 6


def test_hatching_is_made_where_it_is_used() -> None:
    plot = Plot((0, 10), (0, 1), "p")
    plot.add_hatch("purge", rising=False)
    assert 'id="hatch-purge"' in plot.parts[0]


def test_long_words_beside_a_picture_have_room() -> None:
    plot = Plot((0, 1), (0, 1e10), "all")
    assert "min-width:8.6em" in plot.render(y_ticks=[Tick(1e9, "1,000,000,000")])
    assert "min-width" not in plot.render(y_ticks=[Tick(1e3, "1,000")])
    assert "min-width" not in plot.render(y_ticks=[Tick(1e9, "1,000,000,000")], class_="names")
