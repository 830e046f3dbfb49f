"""A published table of forecasts of Bitcoin, made again, and what it leaves out.

    python examples/honest_rerun/rerun.py                   # downloads from Binance's archive
    python examples/honest_rerun/rerun.py --file BTC_USDT-30m.feather

The table: ``jeromeetienne/transformer_bitcoin_ai``, ``docs_finance/reports``: hours of BTCUSDT on
Binance's spot market, 2024-01-01 to 2024-12-01, one step ahead over the last 20 %, 1,608 hours. Its
best rule buys or sells by the sign of an ARIMA(1,1,0), and is said to make 53.5 % in ten weeks.
That number comes out where one side of 0.05 % is paid once, of the 1,730 that the rule trades: it
is +53.6 % before costs, and -35 % after all of them.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from btc_datamodule import (
    BinanceArchive,
    BTCDataModule,
    CandleFile,
    CumulativeReturn,
    FractionSplit,
    ScoreCard,
    Source,
)

PUBLISHED = {
    "MAE of no change, dollars": "260.50",
    "RMSE of no change, dollars": "396.97",
    "direction by ARIMA(1,1,0)": "0.5373",
    "return of its rule": "+53.5 %",
}

RULE = "ARIMA(1,1,0)"

HOLD = "buy and hold"

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


def forecast_arima(closes: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n, 1) returns by an ARIMA(1,1,0) without a constant, fitted to all closes before the test.

    That is an autoregression of one lag of the changes in price, by least squares.

    Args:
        closes: (T,) of all hours.
        rows: (n,) of the hours after which is forecast.
    """
    changes = np.diff(closes, prepend=np.nan)
    seen = changes[1 : rows[0] + 1]
    slope = seen[1:] @ seen[:-1] / (seen[:-1] @ seen[:-1])
    return np.log1p(slope * changes[rows] / closes[rows])[:, np.newaxis]


def score(dm: BTCDataModule) -> ScoreCard:
    """The rule's forecasts, scored."""
    times = dm.dataset("test")[:].origin_time.numpy()
    rows = (times - dm.table.first) // dm.table.interval
    said = forecast_arima(np.asarray(dm.table.array("close")), rows)
    return dm.score({RULE: {"origin_time": times, "forecast": said}}, cost=COST)


def list_ours(card: ScoreCard) -> dict[str, str]:
    """What the table says, computed here."""
    measures = {row["forecast"]: row for row in card.measures.to_dicts()}
    assert card.money is not None
    money = {row["forecast"]: row for row in card.money.to_dicts()}
    naive = measures["no change"]
    found = (
        f"{naive['price_mae']:.2f}",
        f"{naive['price_rmse']:.2f}",
        f"{measures[RULE]['accuracy']:.4f}",
        f"{100 * ((1 + money[RULE]['gross']) * (1 - 1e-4 * COST) - 1):+.1f} %",
    )
    return dict(zip(PUBLISHED, found, strict=True))


def tell(source: Source, windows: Sequence[tuple[str, str]] = WINDOWS) -> str:
    """The table, and what it leaves out.

    Args:
        source: of candles of BTCUSDT.
        windows: from when to when; the first is that of the table.
    """
    with tempfile.TemporaryDirectory() as folder:
        cards = {window: score(make(source, folder, *window)) for window in windows}
    card = cards[windows[0]]
    lines = [f"{'':28} {'published':>10} {'here':>10}"]
    lines += [
        f"{what:28} {PUBLISHED[what]:>10} {ours:>10}" for what, ours in list_ours(card).items()
    ]
    lines += [
        f"\nLeft out there: buying and holding, {COST:g} basis points a side, other windows\n",
        f"{'':24} {'direction':>10} {'gross':>9} {'net':>9} {HOLD:>13}",
    ]
    for (start, end), each in cards.items():
        rule = next(row for row in each.measures.to_dicts() if row["forecast"] == RULE)
        assert each.money is not None
        money = {row["forecast"]: row for row in each.money.to_dicts()}
        earned, held = money[RULE], money[HOLD]
        lines.append(
            f"{start} to {end} {rule['accuracy']:>10.4f} {100 * earned['gross']:>+8.1f}% "
            f"{100 * earned['net']:>+8.1f}% {100 * held['gross']:>+12.1f}%"
        )
    return "\n".join([*lines, f"\n{card}"])


def main() -> None:
    """Print the table, and what it leaves out."""
    parser = argparse.ArgumentParser(description="A published table made again.")
    parser.add_argument("--file", type=Path, help="candles of BTCUSDT; without it a download")
    options = parser.parse_args()
    source = BinanceArchive("BTCUSDT") if options.file is None else CandleFile(options.file)
    print(tell(source))


if __name__ == "__main__":
    main()
