"""Sources of anybody's own that fail, or yield what is no block: one line that says whose it is."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from btc_datamodule import Block, BTCDataModule, RecordBlock, Simulator, SourceError
from btc_datamodule.candles.timeline import Span
from btc_datamodule.cli.commands import main
from btc_datamodule.errors import BTCDataError, CandleError
from btc_datamodule.sources.answering import check_declaration, explain_failure, list_answers
from btc_datamodule.store.update import update, update_records
from tests.factories import HOUR, T0, candles_of
from tests.store.records import Scripted, hours, records_of

CANDLES = candles_of([True] * 20)
YIELDS: dict[str, tuple[Callable[[], Any], str]] = {
    "none": (lambda: iter([None]), r"`blocks` yielded None and no RecordBlock: for a time"),
    "a number": (lambda: iter([3]), "`blocks` yielded something of type int and no RecordBlock"),
    "candles": (
        lambda: iter([Block(CANDLES.span, CANDLES, "own")]),
        r"yielded something of type btc_datamodule\.\w+ and no RecordBlock",
    ),
    "not an iterator": (lambda: None, "`blocks` gave None: it must yield a RecordBlock for each"),
    "an error at once": (
        lambda: dict[str, int]()["x"],
        r"its `blocks` failed: KeyError: 'x' \(line \d+ of test",
    ),
}


@dataclass(frozen=True)
class Own(Scripted):
    """Records in blocks, and something else after the first, as ``how`` says."""

    how: str = "none"

    def blocks(self, span: Span) -> Any:
        if self.how in ("not an iterator", "an error at once"):
            return YIELDS[self.how][0]()
        return self.answer(span)

    def answer(self, span: Span) -> Iterator[Any]:
        first, *rest = super().blocks(span)
        yield first
        yield from YIELDS[self.how][0]()
        yield from rest


@dataclass(frozen=True)
class Failing(Scripted):
    """Raises what is no error of the package's, after its first block."""

    def blocks(self, span: Span) -> Iterator[RecordBlock]:
        yield next(super().blocks(span))
        raise ValueError("boom\nand more")


@dataclass(frozen=True)
class Unknown(Scripted):
    @property
    def revision(self) -> str | None:
        raise PermissionError(13, "no")


@dataclass(frozen=True)
class FailingCandles(Simulator):
    what: Any = None

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        if self.what == "none":
            yield None  # type: ignore[misc]
        yield from super().blocks(interval, span)
        raise LookupError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scripted" / "funding" / "records.h5"


@pytest.mark.parametrize("how", YIELDS)
def test_what_is_no_block_is_an_error_and_no_end_of_the_answers(path: Path, how: str) -> None:
    with pytest.raises(SourceError, match=YIELDS[how][1]) as caught:
        update_records(path, Own(how=how), *hours(0, 30))
    assert str(caught.value).startswith("scripted")
    assert "\n" not in str(caught.value)


def test_what_came_before_a_failure_is_kept(path: Path) -> None:
    said = re.escape("scripted: its `blocks` failed: ValueError: boom (line ")
    with pytest.raises(SourceError, match=said) as caught:
        update_records(path, Failing(), *hours(0, 30))
    assert isinstance(caught.value.__cause__, ValueError)
    source = Scripted()
    update_records(path, source, *hours(0, 30))
    assert source.asked == [hours(10, 30)]


def test_a_revision_that_fails_is_told(path: Path) -> None:
    with pytest.raises(SourceError, match=r"scripted: its `revision` failed: PermissionError: \["):
        update_records(path, Unknown(), *hours(0, 30))


@pytest.mark.parametrize("interval", [HOUR, 7 * HOUR])
@pytest.mark.parametrize(
    ("what", "said"),
    [("none", "yielded None and no Block"), (None, "its `blocks` failed: LookupError (line ")],
)
def test_so_is_it_of_candles_joined_or_not(
    tmp_path: Path, interval: int, what: Any, said: str
) -> None:
    with pytest.raises(SourceError, match=re.escape(said)):
        update(tmp_path / "candles.h5", FailingCandles(what=what), interval, T0, T0 + 70 * HOUR)


def test_errors_of_the_package_and_blocks_pass_as_they_are() -> None:
    block = RecordBlock(hours(0, 5), records_of(range(5)), "own")
    ended = []

    def answer() -> Iterator[RecordBlock]:
        try:
            yield block
            raise CandleError("as it is")
        finally:
            ended.append(1)

    answers = list_answers(Scripted(), answer, RecordBlock)
    assert next(answers) is block
    answers.close()
    assert ended == [1]
    with pytest.raises(CandleError, match=r"^as it is$"):
        list(list_answers(Scripted(), answer, RecordBlock))
    with pytest.raises(BTCDataError, match=r"^x$"), explain_failure(Scripted(), "blocks"):
        raise BTCDataError("x")
    assert list(list_answers(Scripted(), lambda: [block], RecordBlock)) == [block]


def test_the_covariate_is_named_on_the_command_line_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = {name: f"{__name__}.{name}" for name in ("Failing", "Own")}
    for name, said in {
        "Failing": "its `blocks` failed: ValueError: boom (line ",
        "Own": "broke its contract: `blocks` yielded None",
    }.items():
        options = "--data.interval 1h --data.start 2020-01-01 --data.end 2020-01-05"
        series = [f"--data.covariates.f={own[name]}", "--data.features=[log_return, f.rate]"]
        arguments = ["prepare", *options.split(), *series]
        assert main(arguments) == 1
        told = capsys.readouterr().err
        assert "covariate 'f': scripted" in told
        assert said in told
        assert "Traceback" not in told
    module = BTCDataModule(
        FailingCandles(), "1h", start="2020-01-01", end="2020-02-01", data_dir=tmp_path
    )
    with pytest.raises(SourceError, match="simulator: its `blocks` failed: LookupError"):
        module.prepare_data()


# --- what a source says of itself -----------------------------------------------------------------


def fail(_: Any) -> Any:
    raise KeyError("x")


SAID: dict[str, tuple[dict[str, Any], str]] = {
    "a name that is none": ({"name": 7}, "its `name` is 7: give a text that can name a folder"),
    "a name elsewhere": ({"name": "../up"}, r"its `name` is '../up', which cannot name a folder"),
    "a series elsewhere": ({"series": "a/../b"}, r"its `series` is 'a/../b', which cannot"),
    "a series that fails": ({"series": property(fail)}, "its `series` failed: KeyError: 'x'"),
    "no columns": ({"columns": ()}, r"its `columns` is \(\): give names of values"),
    "columns of none": ({"columns": None}, "its `columns` is None: give names of values"),
    "a column twice": ({"columns": ("a", "a")}, "give names of values"),
    "a column of time": ({"columns": ("time",)}, "give names of values"),
    "an interval of none": ({"interval": 0}, "its `interval` is 0: give seconds, 1 or more"),
    "half an interval": ({"interval": 0.5}, "its `interval` is 0.5: give seconds"),
    "a negative one": ({"interval": -3600}, "its `interval` is -3600: give seconds"),
    "a text": ({"interval": "1h"}, "its `interval` is '1h': give seconds"),
    "what it covers": ({"covers": "8h"}, "its `covers` is '8h': give seconds, 0 or more"),
    "what it covers later": ({"covers": -5}, "its `covers` is -5: give seconds, 0 or more"),
}


@pytest.mark.parametrize("case", SAID)
def test_what_a_source_says_of_itself_is_checked_before_it_is_asked(case: str) -> None:
    attributes, problem = SAID[case]
    kind = type("Wrong", (Scripted,), attributes)
    with pytest.raises(SourceError, match=problem):
        check_declaration(kind())
    with pytest.raises(SourceError, match=f"^covariate 'f': .*{problem}"):
        BTCDataModule(Simulator(), covariates={"f": kind()})


def test_a_main_source_is_checked_too() -> None:
    kind = type("Wrong", (Simulator,), {"name": "../up"})
    with pytest.raises(SourceError, match=r"its `name` is '../up', which cannot name a folder"):
        BTCDataModule(kind())


def test_a_revision_is_a_text(tmp_path: Path) -> None:
    kind = type("Wrong", (Scripted,), {"revision": 4})
    with pytest.raises(SourceError, match="its `revision` is 4: give a text, or None"):
        update_records(tmp_path / "records.h5", kind(), *hours(0, 10))
