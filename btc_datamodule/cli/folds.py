"""``folds``: every fold of the split by ``run_folds``, from the YAML that a fit takes."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningCLI

from btc_datamodule.cli.parsing import say
from btc_datamodule.datamodule import BTCDataModule
from btc_datamodule.folds.run import run_folds


class FoldTrainer(Trainer):
    """A Trainer whose method ``folds`` says which options the command has."""

    def folds(
        self,
        model: LightningModule,
        datamodule: BTCDataModule,
        out: str = "folds",
        folds: list[int] | None = None,
        prices: bool = False,
        quantiles: list[float] | None = None,
        draws: bool = False,
    ) -> None:
        """Fit, test and predict every fold of the split, join the forecasts, and score them.

        Args:
            model: made anew for each fold.
            datamodule: with a split of several folds.
            out: folder of all folds; what is finished in it is not run again.
            folds: numbers of those to run, such as [0, 2]; none for all. Finished ones are joined.
            prices: also write the prices that forecasts stand for.
            quantiles: levels that forecasts have a number for.
            draws: forecasts are draws of a distribution.
        """
        raise NotImplementedError("the command makes a Trainer for each fold")


def run_from_config(cli: LightningCLI, datamodule: BTCDataModule, options: dict[str, Any]) -> None:
    """Run the folds with a model and a Trainer made anew of a command's configuration each time.

    Args:
        cli: that has read the configuration.
        datamodule: made of it.
        options: those of ``FoldTrainer.folds``.
    """
    config = cli.config[cli.subcommand]

    def make_trainer(folder: Path) -> Trainer:
        config.trainer.default_root_dir = str(folder)
        cli.instantiate_classes()
        trainer: Trainer = cli.trainer
        return trainer

    def make_model(_: BTCDataModule) -> LightningModule:
        model: LightningModule = cli.model  # made with the Trainer of the same fold
        return model

    seed = config.seed_everything
    found = run_folds(
        datamodule,
        make_model,
        make_trainer,
        seed=seed if type(seed) is int else None,
        **options,
    )
    if cli.trainer.is_global_zero:
        say(found)
