"""A search over features and lookback by Optuna, in which every file is made once.

    python -m examples.search.search                                  # the simulator
    python -m examples.search.search --binance                        # Binance's archive
    python -m examples.search.search --file BTC_USDT-30m.feather      # hours of a file

A trial is a datamodule with settings of its own over the same folder. The candles are downloaded by
the first; each set of features has one feature file, whatever the lookback and the model, and a
trial that asks for a set again opens it. Trials are compared on validation. The best is then
trained again and scored on test, and the score is told how many were tried.
"""

import argparse
from pathlib import Path

import optuna
from lightning.pytorch import Trainer, seed_everything

from btc_datamodule import (
    BinanceArchive,
    BTCDataModule,
    CandleFile,
    DateSplit,
    LogReturn,
    ScoreCard,
    Simulator,
    Source,
)
from examples.gru.gru import GRU

FEATURES = {
    "returns": ["log_return"],
    "bars": ["log_return", "log_high", "log_low", "relative_volume"],
    "volatility": ["log_return", "volatility", "parkinson"],
    "calendar": ["log_return", "day_sin", "day_cos", "week_sin", "week_cos"],
}


def make(trial: optuna.trial.BaseTrial, source: Source, folder: Path | str) -> BTCDataModule:
    """The datamodule of a trial."""
    simulated = isinstance(source, Simulator)
    return BTCDataModule(
        source,
        start="2020-01-01" if simulated else "2020-09-20",
        end="2022-01-01" if simulated else "2025-09-19",
        features=FEATURES[trial.suggest_categorical("features", list(FEATURES))],
        target=LogReturn(),
        target_scaling="train",
        lookback=trial.suggest_categorical("lookback", [12, 24, 48]),
        split=DateSplit("2021-07-01", "2021-10-01")
        if simulated
        else DateSplit("2024-01-01", "2025-01-01"),
        data_dir=folder,
    )


def fit(
    trial: optuna.trial.BaseTrial, dm: BTCDataModule, epochs: int, batches: int | None = None
) -> tuple[Trainer, GRU]:
    """Train the model of a trial.

    Args:
        trial: says its settings.
        dm: its data.
        epochs: as many.
        batches: of an epoch; None for all.
    """
    seed_everything(0)
    model = GRU(
        dm.n_features,
        dm.target_shape,
        hidden=trial.suggest_categorical("hidden", [8, 16, 32]),
        learning_rate=trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
    )
    trainer = Trainer(
        max_epochs=epochs,
        limit_train_batches=batches,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=dm)
    return trainer, model


def search(
    source: Source,
    folder: Path | str,
    trials: int = 8,
    epochs: int = 2,
    batches: int | None = None,
) -> tuple[optuna.Study, ScoreCard]:
    """The study, and the score of its best trial on test."""

    def measure(trial: optuna.Trial) -> float:
        trainer, _ = fit(trial, make(trial, source, folder), epochs, batches)
        return float(trainer.callback_metrics["val_loss"])

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(measure, n_trials=trials)
    best = optuna.trial.FixedTrial(study.best_params)
    dm = make(best, source, folder)
    trainer, model = fit(best, dm, epochs, batches)
    forecasts = trainer.predict(model, datamodule=dm)
    return study, dm.score(forecasts, trials=trials)


def main() -> None:
    """Search, and print the best settings and their score."""
    parser = argparse.ArgumentParser(description="A search over features and lookback.")
    parser.add_argument("--file", type=Path, help="candles of BTCUSDT")
    parser.add_argument("--binance", action="store_true", help="download them from the archive")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--data_dir", default="data")
    options = parser.parse_args()
    source: Source = Simulator()
    if options.file is not None or options.binance:
        source = BinanceArchive("BTCUSDT") if options.binance else CandleFile(options.file)
    study, card = search(source, options.data_dir, options.trials)
    print(f"best of {options.trials}: {study.best_params}\n\n{card}")


if __name__ == "__main__":
    main()
