"""Bars of progress: shown where a person watches, below 100 % until the step is over."""

import io
import re
import sys
import time
from contextlib import redirect_stderr
from types import SimpleNamespace

import pytest

from btc_datamodule import progress
from btc_datamodule.progress import show_each, show_step


class Terminal(io.StringIO):
    """What is written to a terminal."""

    def isatty(self) -> bool:
        return True

    def percentages(self) -> list[int]:
        return [int(number) for number in re.findall(r"(\d+)%", self.getvalue())]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal on which a step shows at once, and its clock runs fast."""
    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.setattr(progress, "TICK", 0.01)
    return Terminal()


def test_a_bar_stays_below_100_percent_until_the_step_is_over(terminal: Terminal) -> None:
    with redirect_stderr(terminal), show_step("merging", 2000, " bars") as step:
        for _ in range(4):
            time.sleep(0.02)
            step.advance(500)
        time.sleep(0.05)  # a sync, a rename
        assert max(terminal.percentages()) == 99
    time.sleep(0.02)
    assert terminal.percentages()[-1] == 100
    assert "merging: " in terminal.getvalue()
    assert terminal.getvalue().endswith("\n")


def test_the_last_of_a_few_pieces_is_not_counted_before_the_end(terminal: Terminal) -> None:
    with redirect_stderr(terminal), show_step("audit", 4) as step:
        step.advance(4, "the last guarantee")
        time.sleep(0.05)
        assert re.findall(r"\d/4", terminal.getvalue())[-1] == "3/4"
    last = terminal.getvalue().strip().rsplit("\r", maxsplit=1)[-1]
    assert "4/4" in last
    assert "the last guarantee" in last


def test_the_clock_of_a_step_that_counts_nothing_runs_on(terminal: Terminal) -> None:
    with redirect_stderr(terminal), show_step("file btc: reading"):
        time.sleep(1.15)
    shown = re.findall(r"file btc: reading: (00:0\d)", terminal.getvalue())
    assert {"00:00", "00:01"} <= set(shown)


def test_a_step_that_fails_does_not_look_done(terminal: Terminal) -> None:
    def fail() -> None:
        with redirect_stderr(terminal), show_step("coinbase BTC-USD", 100) as step:
            step.advance(30)
            time.sleep(0.03)
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        fail()
    assert max(terminal.percentages()) == 30
    assert terminal.getvalue().endswith("\n")


def test_a_step_of_less_than_a_second_shows_nothing(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "DELAY", 1.0)
    with redirect_stderr(terminal), show_step("features", 100) as step:
        step.advance(100)
        time.sleep(0.05)
    assert terminal.getvalue() == ""


@pytest.mark.usefixtures("terminal")
def test_where_nobody_watches_nothing_is_shown() -> None:
    quiet = io.StringIO()
    for stream in (quiet, None):
        with redirect_stderr(stream), show_step("features", 100) as step:
            time.sleep(0.02)
            step.advance(100, "told")
    assert quiet.getvalue() == ""


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(("config", "shown"), [({"IPKernelApp": {}}, True), ({}, False)])
def test_a_notebook_is_watched_though_it_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, config: dict[str, object], shown: bool
) -> None:
    """The shell of ``ipython`` in a pipe has no kernel."""
    cell = io.StringIO()
    shell = SimpleNamespace(config=config)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    with redirect_stderr(cell), show_step("features", 100) as step:
        time.sleep(0.03)
        step.advance(50)
        time.sleep(0.03)
    assert ("features: " in cell.getvalue()) == shown


def test_of_several_things_it_is_shown_how_many_are_done(terminal: Terminal) -> None:
    with redirect_stderr(terminal):
        for _ in show_each(["a.csv"], "files"):
            time.sleep(0.03)
        assert terminal.getvalue() == ""
        for _ in show_each(["a.csv", "b.csv"], "files"):
            time.sleep(0.03)
    assert re.findall(r"\d/2", terminal.getvalue())[-1] == "2/2"
    assert {"0/2", "1/2", "2/2"} == set(re.findall(r"\d/2", terminal.getvalue()))
