"""A published table of forecasts of Bitcoin, made again, and what it leaves out.

    python examples/honest_rerun/rerun.py                   # downloads from Binance's archive
    python examples/honest_rerun/rerun.py --file BTC_USDT-30m.feather

The table: ``jeromeetienne/transformer_bitcoin_ai``, ``docs_finance/reports``: hours of BTCUSDT on
Binance's spot market, 2024-01-01 to 2024-12-01, one step ahead over the last 20 %, 1,608 hours. Its
best rule buys or sells by the sign of an ARIMA(1,1,0), and is said to make 53.5 % in ten weeks.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from btc_datamodule import (
    BinanceArchive,
    BTCDataModule,
    CandleFile,
    CumulativeReturn,
    FractionSplit,
    Source,
)
from btc_datamodule.scoring.card import ScoreCard
from btc_datamodule.scoring.ledger import HOLD
from btc_datamodule.scoring.samples import Samples, list_samples

PUBLISHED = {
    "MAE of no change, dollars": "260.50",
    "RMSE of no change, dollars": "396.97",
    "direction by ARIMA(1,1,0)": "0.5373",
    "gross return of its rule": "+53.5 %",
}

COST = 5.0
"""Basis points of one side: 0.1 % to turn a unit long into one short."""

WINDOWS = (("2024-01-01", "2024-12-01"), ("2023-01-01", "2023-12-01"), ("2022-01-01", "2022-12-01"))


def make(source: Source, folder: str, start: str, end: str) -> BTCDataModule:
    """Hours of one window, the last fifth of which is the test."""
    dm = BTCDataModule(
        source,
        interval="1h",
        start=start,
        end=end,
        features=["log_return"],
        lookback=2,
        horizon=1,
        target=CumulativeReturn(),
        split=FractionSplit(val=0.1, test=0.2),
        data_dir=folder,
    )
    dm.prepare_data()
    dm.setup()
    return dm


def forecast_arima(closes: NDArray[np.float64], samples: Samples) -> NDArray[np.float64]:
    """(n, 1) returns by an ARIMA(1,1,0) without a constant, fitted to all closes before the test.

    That is an autoregression of one lag of the changes in price, by least squares.
    """
    changes = np.diff(closes, prepend=np.nan)
    seen = changes[1 : samples.rows[0] + 1]
    slope = seen[1:] @ seen[:-1] / (seen[:-1] @ seen[:-1])
    rows = samples.rows
    return np.log1p(slope * changes[rows] / closes[rows])[:, np.newaxis]


def score(dm: BTCDataModule) -> ScoreCard:
    """The rule's forecasts, scored."""
    samples = list_samples(dm.stages, "test")
    said = forecast_arima(np.asarray(dm.table.array("close")), samples)
    return dm.score(
        {"ARIMA(1,1,0)": {"origin_time": samples.origin_time, "forecast": said}}, cost=COST
    )


def list_ours(card: ScoreCard) -> dict[str, str]:
    """What the table says, computed here."""
    measures = {row["forecast"]: row for row in card.measures.to_dicts()}
    assert card.money is not None
    money = {row["forecast"]: row for row in card.money.to_dicts()}
    naive, rule = measures["no change"], "ARIMA(1,1,0)"
    found = (
        f"{naive['price_mae']:.2f}",
        f"{naive['price_rmse']:.2f}",
        f"{measures[rule]['accuracy']:.4f}",
        f"{100 * money[rule]['gross']:+.1f} %",
    )
    return dict(zip(PUBLISHED, found, strict=True))


def main() -> None:
    """Print the table, and what it leaves out."""
    parser = argparse.ArgumentParser(description="A published table made again.")
    parser.add_argument("--file", type=Path, help="candles of BTCUSDT; without it a download")
    options = parser.parse_args()
    source = BinanceArchive("BTCUSDT") if options.file is None else CandleFile(options.file)
    with tempfile.TemporaryDirectory() as folder:
        cards = {window: score(make(source, folder, *window)) for window in WINDOWS}
    card = cards[WINDOWS[0]]
    print(f"{'':28} {'published':>10} {'here':>10}")
    for what, ours in list_ours(card).items():
        print(f"{what:28} {PUBLISHED[what]:>10} {ours:>10}")
    print(f"\nLeft out there: buying and holding, {COST:g} basis points a side, other windows\n")
    print(f"{'':24} {'direction':>10} {'gross':>9} {'net':>9} {HOLD:>13}")
    for (start, end), each in cards.items():
        rule = next(row for row in each.measures.to_dicts() if row["forecast"] == "ARIMA(1,1,0)")
        assert each.money is not None
        money = {row["forecast"]: row for row in each.money.to_dicts()}
        earned, held = money["ARIMA(1,1,0)"], money[HOLD]
        print(
            f"{start} to {end} {rule['accuracy']:>10.4f} {100 * earned['gross']:>+8.1f}% "
            f"{100 * earned['net']:>+8.1f}% {100 * held['gross']:>+12.1f}%"
        )
    print(f"\n{card}")


if __name__ == "__main__":
    main()
