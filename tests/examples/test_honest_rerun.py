"""The example of a published table does what it says."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from btc_datamodule import BinanceArchive, Simulator
from btc_datamodule.candles.series import concatenate
from btc_datamodule.candles.timeline import parse_instant
from btc_datamodule.testing.exchange import BinanceArchiveAnswers, Exchange

HOUR = 3600
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def rerun() -> ModuleType:
    spec = spec_from_file_location("rerun", EXAMPLES / "honest_rerun/rerun.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_published_table_comes_out_to_its_digits(
    rerun: ModuleType,
    real_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = real_data / "freqtrade/BTC_USDT-30m_2020-2025.feather"
    if not path.is_file():
        pytest.skip(f"there is no {path}")
    monkeypatch.setattr(sys, "argv", ["rerun.py", "--file", str(path)])
    rerun.main()
    told = capsys.readouterr().out.splitlines()
    table = [line.replace(" %", "%").split()[-2:] for line in told[1:5]]
    assert [ours for _, ours in table] == ["260.50", "396.97", "0.5373", "+53.5%"]
    assert all(published == ours for published, ours in table)
    windows = [line.split()[3:] for line in told if line.startswith("202")]
    assert windows[0] == ["0.5373", "+53.6%", "-35.3%", "+50.0%"]
    assert [float(row[2].rstrip("%")) < 0 for row in windows] == [True] * 3


def test_it_runs_from_the_archive(rerun: ModuleType) -> None:
    span = (parse_instant("2021-01-01"), parse_instant("2021-03-01"))
    held = concatenate([block.candles for block in Simulator(seed=4).blocks(HOUR, span)])
    with Exchange(BinanceArchiveAnswers(held)) as exchange:
        source = BinanceArchive("BTCUSDT", base_url=exchange.url)
        told = rerun.tell(source, [("2021-01-01", "2021-03-01")])
    assert len(exchange.requests) == 4, "two months, each with its checksum"
    assert "260.50" in told
    assert "ARIMA(1,1,0) is " in told
