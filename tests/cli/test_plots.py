"""``plot`` draws each kind of picture by the method of its name."""

from pathlib import Path

import polars as pl
import pytest

pytest.importorskip("matplotlib", reason="pictures need matplotlib")

from btc_datamodule import BTCDataModule, ConfigError, CumulativeReturn
from btc_datamodule.cli.data import PICTURES
from btc_datamodule.cli.plots import Kind, write_picture
from btc_datamodule.pictures import needed
from btc_datamodule.scoring.samples import list_samples
from tests.factories import make_datamodule


@pytest.fixture(scope="module")
def dm(tmp_path_factory: pytest.TempPathFactory) -> BTCDataModule:
    return make_datamodule(tmp_path_factory.mktemp("plots"), target=CumulativeReturn())


@pytest.fixture(scope="module")
def forecasts(dm: BTCDataModule, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of forecasts of test."""
    samples = list_samples(dm.stages, "test")
    path = tmp_path_factory.mktemp("forecasts") / "model.parquet"
    columns = {"origin_time": samples.origin_time, "forecast": samples.truth[:, 0]}
    pl.DataFrame(columns).write_parquet(path)
    return str(path)


@pytest.mark.parametrize("kind", PICTURES)
def test_every_kind_is_written(
    dm: BTCDataModule, forecasts: str, kind: Kind, tmp_path: Path
) -> None:
    given = [forecasts] if kind == "forecasts" else []
    path = tmp_path / "picture.PNG"
    assert write_picture(dm, path, kind, given) == path
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [each.name for each in tmp_path.iterdir()] == ["picture.PNG"]


def test_forecasts_and_their_kind_belong_together(
    dm: BTCDataModule, forecasts: str, tmp_path: Path
) -> None:
    for kind, given in (("forecasts", []), ("timeline", [forecasts])):
        with pytest.raises(ConfigError, match="--kind forecasts"):
            write_picture(dm, tmp_path / "x.png", kind, given)  # type: ignore[arg-type]


def test_without_matplotlib_one_line_says_how_to_get_it(
    dm: BTCDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needed, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="pip install matplotlib"):
        write_picture(dm, tmp_path / "x.png")
