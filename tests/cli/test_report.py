"""``btc-datamodule report`` as a person meets it."""

from pathlib import Path

import polars as pl
import pytest

from btc_datamodule import BTCDataModule, Simulator
from btc_datamodule.cli.commands import main
from tests.cli.test_commands import CONFIGS, error_of

WHERE = ["--config", str(CONFIGS / "dummy.yaml"), "--data.end", "2020-04-01"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with candles, and forecasts of test that are the truth."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["prepare", *WHERE]) == 0
    dm = BTCDataModule(
        Simulator(outages_per_year=6),
        start="2020-01-01",
        end="2020-04-01",
        features=["log_return", "log_range", "relative_volume", "day_sin", "day_cos"],
        horizon=4,
        data_dir=folder / "data",
    )
    dm.setup()
    batch = dm.dataset("test")[:]
    columns = {f"forecast_{bar}_0": batch.y[:, bar, 0].numpy() for bar in range(4)}
    frame = pl.DataFrame({"origin_time": batch.origin_time.numpy(), **columns})
    frame.write_parquet(folder / "model.parquet")
    return folder


@pytest.fixture(autouse=True)
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def test_a_page_is_written_and_its_size_and_verdict_are_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["report", *WHERE]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"report.html: {Path('report.html').stat().st_size:,} bytes"
    assert "the audit was not run (`btc-datamodule report --audit true`)" in told[1]


def test_forecasts_are_shown_with_their_score(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("scipy")
    options = ["--forecasts", "mine=model.parquet", "--cost", "3", "--output", "scored.html"]
    assert main(["report", *WHERE, *options]) == 0
    assert capsys.readouterr().out.startswith("scored.html: ")
    page = Path("scored.html").read_text(encoding="utf-8")
    assert '<b class="good">better</b><span><strong>mine</strong> than ' in page
    assert "Money, at 3 basis points a side" in page


def test_the_audit_is_run_where_it_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from btc_datamodule.audit.report import Audit, Finding

    found = Audit("all", (Finding("inputs end at the origin", True, "12 samples"),))
    monkeypatch.setattr(BTCDataModule, "audit", lambda _: found)
    assert main(["report", *WHERE, "--audit", "true", "--output", "audited.html"]) == 0
    assert "All 1 guarantees of the audit hold." in capsys.readouterr().out
    assert "12 samples" in Path("audited.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "x.pdf"], "output 'x.pdf' must end in one of .html"),
        (["--output", "no/x.html"], "there is no folder no: make it, or name another"),
        (["--forecasts", "no.parquet"], "no.parquet: no such file"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in error_of(capsys, 1, ["report", *WHERE, *options])
