"""``run_folds``: a model of its own fitted, tested and predicted for each fold of a split.

What a fold gives depends on the settings, the candles up to its end, the model and ``seed`` alone:
the same bits whichever folds are run, in whatever order. Nothing goes from one fold to the next:
datamodule, model and trainer are made anew for each. A fold that is finished is not run again by
a later run with the same settings; one that was stopped is begun anew.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from btc_datamodule.checks import check_whole_number, list_first, name_type
from btc_datamodule.datamodule import BTCDataModule
from btc_datamodule.disk.lock import PATIENCE_SECONDS, LockedError, hold_lock
from btc_datamodule.errors import BTCDataError, ConfigError, NotPreparedError, retell
from btc_datamodule.escaping import escape
from btc_datamodule.evaluation.splits import Fold
from btc_datamodule.folds.record import (
    FORECASTS,
    FoldRecord,
    begin_fold,
    describe_data,
    hash_file,
    identify_training,
    read_record,
)
from btc_datamodule.folds.results import FoldRuns, join_forecasts
from btc_datamodule.public import public
from btc_datamodule.training.internals import get_callbacks, starts_ranks_in_call
from btc_datamodule.training.predictions import PredictionWriter

APART = (
    "losses of folds are each in units of their own train span (`target_scaling`), and not to be "
    "compared: compare the score"
)

MakeModel = Callable[[BTCDataModule], LightningModule]
MakeTrainer = Callable[[Path], Trainer]

LOCK = "folds.lock"
"""In ``out``, held by the run that uses it."""


@public
def run_folds(
    dm: BTCDataModule,
    make_model: MakeModel,
    make_trainer: MakeTrainer,
    *,
    out: str | Path = "folds",
    folds: Sequence[int] | None = None,
    seed: int | None = None,
    prices: bool = False,
    quantiles: Sequence[float] | None = None,
    draws: bool = False,
) -> FoldRuns:
    """Fit, test and predict each fold of a split, join the forecasts, and score them.

    Each fold has a folder ``out``/fold_NNN with its forecasts, what its trainer keeps and a record
    of what it was made of. The best checkpoint of the fit is what is tested and predicted, if the
    trainer keeps one, and else the model as the fit has left it; a ``dirpath`` of its own is made
    one in the folder of the fold. Predicted is every origin
    whose target begins in test (``predict_dataloader``). With scipy all forecasts are scored.

    With ``strategy="ddp"`` all ranks call this function, and rank 0 joins and scores. Strategies
    that start ranks by spawn or fork are refused.

    Args:
        dm: the data, with a split of several folds; it need not be prepared.
        make_model: makes a new model each time, after ``make_trainer``, given the datamodule of
            the fold. Its ``predict_step`` gives what ``PredictionWriter`` takes.
        make_trainer: makes a new Trainer, given the folder of the fold, which is meant for
            its ``default_root_dir``.
        out: folder of all folds; made if it is not there, and of one run at a time. In it
            ``forecasts.parquet`` is replaced, and the whole folder of a fold that is run; what
            else lies there is left alone.
        folds: numbers of those to run, in any order, each run once; None for all. Others that
            ``out`` has finished with the same settings are joined with them.
        seed: random numbers of fold k begin at ``seed + k``; None for ``dm.seed``.
        prices: see ``PredictionWriter``.
        quantiles: levels of forecasts that are quantiles; see ``BTCDataModule.score``.
        draws: whether forecasts are draws; likewise.

    Returns:
        The records of all folds that are finished with these settings, the file of their
        forecasts, ``out``/forecasts.parquet, and the score. It prints as text.

    Raises:
        ConfigError: if the split has one fold, a fold is not there or has a stage without windows
            (before any is run), a model, trainer or part of one comes twice, the strategy will not
            do, another run is using ``out``, or a fold's folder there has no record of a fold.
    """
    whole = _prepare(dm)
    numbers = _choose_folds(folds, whole.n_folds)
    first = check_whole_number("seed", dm.seed if seed is None else seed)
    out = _check_folder(out)
    with _hold_folder(out):
        found = _run_chosen(whole, numbers, make_model, make_trainer, out, first, prices)
        return found if _get_rank() else _score(whole, found, quantiles, draws)


def _run_chosen(
    whole: BTCDataModule,
    numbers: Sequence[int],
    make_model: MakeModel,
    make_trainer: MakeTrainer,
    out: Path,
    first: int,
    prices: bool,
) -> FoldRuns:
    """Run those of some folds that are not finished, and join all that are."""
    folders = {number: out / f"fold_{number:03d}" for number in range(whole.n_folds)}
    spans, data = _survey(whole, numbers, folders)
    fresh, records, kept = _Fresh(), dict[int, FoldRecord](), list[int]()
    untold: dict[str, None] = {}
    trainer: Trainer | None = None
    for number in spans:
        folder = folders[number]
        one = _open_fold(whole, number)
        seed_everything((first + number) % 2**32, workers=True, verbose=False)
        trainer = fresh.check(make_trainer(folder), Trainer, "make_trainer")
        _refuse_trainer(trainer)
        model = fresh.check(make_model(one), LightningModule, "make_model")
        trained = identify_training(model, trainer, one)
        untold |= dict.fromkeys(trained.unknown)
        made_of = [data[number], trained.digest, str(first), str(prices)]
        identity = "" if trained.unknown else "-".join(each[:16] for each in made_of)
        known = read_record(folder)
        if identity and known and known.identity == identity and known.is_finished(folder):
            records[number] = known
            kept.append(number)
        elif number in numbers:
            rank_zero_info(f"fold {number} of {whole.n_folds}: {escape(str(folder))}")
            begun = FoldRecord(number, identity)
            if not _get_rank():
                begin_fold(folder, begun)
            records[number] = _run_fold(one, model, trainer, folder, begun, prices)
    output = out / FORECASTS
    if not _get_rank():
        join_forecasts({number: folders[number] for number in records}, output)
    if trainer is not None:
        trainer.strategy.barrier("run_folds: joined")
    notes = _list_notes(list(records), whole.n_folds, list(untold))
    if whole.settings.target_scaling != "none" and len(records) > 1:
        notes += (APART,)
    return FoldRuns(output, whole.split, spans, records, tuple(kept), notes=notes)


def _list_notes(joined: Sequence[int], count: int, untold: Sequence[str]) -> tuple[str, ...]:
    """What a person should know of the joined file, and of what is run again each time."""
    notes = []
    if len(joined) < count:
        rest = list_first([str(each) for each in range(count) if each not in joined])
        notes.append(
            f"the forecasts are of {len(joined)} of {count} folds: not finished with these "
            f"settings: fold {rest}"
        )
    if untold:
        notes.append(
            "every fold is run again each time, as a part of model or trainer cannot be told from "
            f"another of its kind: {list_first(untold)}"
        )
    return tuple(notes)


def _prepare(dm: BTCDataModule) -> BTCDataModule:
    """The datamodule with its files open.

    Raises:
        ConfigError: if its split has one fold.
    """
    try:
        dm.split.with_fold(0)
    except ConfigError as error:
        raise ConfigError(
            f"{error}: fit it with a Trainer, or set `split` to one of several folds, such as "
            "WalkForward"
        ) from None
    if not _get_rank():
        dm.prepare_data()
    try:
        dm.setup()
    except NotPreparedError:  # rank 0 has not waited for this one, nor this one for it
        dm.prepare_data()
        dm.setup()
    return dm


def _choose_folds(given: Sequence[int] | None, count: int) -> list[int]:
    """The numbers of the folds to run, each once, in order."""
    if given is None:
        return list(range(count))
    if isinstance(given, str) or not isinstance(given, Sequence) or not given:
        raise ConfigError(f"folds is {given!r:.80}: give a list of numbers, such as [0, 2]")
    for number in given:
        if check_whole_number("a number in folds", number, 0) >= count:
            raise ConfigError(f"folds names {number}: there are {count}, 0 to {count - 1}")
    return sorted(set(map(int, given)))


def _check_folder(given: Any) -> Path:
    if not isinstance(given, str | Path) or not str(given):
        raise ConfigError(f"out is {given!r:.80}: give the path of a folder")
    path = Path(given).expanduser().absolute()
    if path.exists() and not path.is_dir():
        raise ConfigError(f"out: {path} is no folder: give the path of one, or of a new one")
    return path


@contextmanager
def _hold_folder(out: Path) -> Iterator[None]:
    """Let no other run use a folder; the ranks of this one use it by leave of rank 0.

    Raises:
        ConfigError: if another run uses it, or it cannot be made.
    """
    with ExitStack() as stack:
        if not _get_rank():
            try:
                stack.enter_context(hold_lock(out / LOCK, PATIENCE_SECONDS, setting="out"))
            except LockedError as error:
                raise ConfigError(
                    f"another run is using `out`: {error}, or give this one another `out`"
                ) from None
        yield


def _open_fold(whole: BTCDataModule, number: int) -> BTCDataModule:
    """A datamodule of a fold, of the candles as they are stored now: none is asked for in between.

    Otherwise an open `end` would give each fold other candles.
    """
    one = whole.with_fold(number)
    one.offline, one.refresh = True, False
    return one


def _survey(
    whole: BTCDataModule, numbers: Sequence[int], folders: Mapping[int, Path]
) -> tuple[dict[int, Fold], dict[int, str]]:
    """The spans of each fold, and what tells its data from others'; all are opened once.

    Those asked for, and those that an earlier run has finished: in order.

    Raises:
        ConfigError: naming the first fold asked for that has a stage without windows.
    """
    spans: dict[int, Fold] = {}
    data: dict[int, str] = {}
    for number, folder in folders.items():
        known = read_record(folder)
        if number not in numbers and not (known and known.is_finished(folder)):
            continue
        one = _open_fold(whole, number)
        try:
            one.setup()
        except BTCDataError as error:
            if number not in numbers:  # finished, but with other settings
                continue
            raise retell(error, f"fold {number}: {error}") from error
        spans[number], data[number] = one.fold, describe_data(one)
    return spans, data


def _run_fold(
    one: BTCDataModule,
    model: LightningModule,
    trainer: Trainer,
    folder: Path,
    record: FoldRecord,
    prices: bool,
) -> FoldRecord:
    """Fit, test and predict one fold, and keep a record of it."""
    _keep_checkpoints_in(folder, trainer)
    trainer.fit(model, datamodule=one)
    epochs, steps = trainer.current_epoch, trainer.global_step
    best = getattr(trainer.checkpoint_callback, "best_model_path", "") or None
    metrics: dict[str, float] = {}
    if type(model).test_step is not LightningModule.test_step:
        found = trainer.test(
            model, datamodule=one, ckpt_path=best, weights_only=False, verbose=False
        )
        metrics = {name: float(value) for each in found for name, value in each.items()}
    get_callbacks(trainer).append(PredictionWriter(str(folder / FORECASTS), prices))
    trainer.predict(
        model, datamodule=one, ckpt_path=best, weights_only=False, return_predictions=False
    )
    if _get_rank():
        return record
    done = FoldRecord(
        record.fold,
        record.identity,
        hash_file(folder / FORECASTS),
        best or "last",
        epochs,
        steps,
        metrics,
    )
    done.write(folder)
    return done


def _keep_checkpoints_in(folder: Path, trainer: Trainer) -> None:
    """Let no fold write its checkpoints over those of another."""
    for callback in get_callbacks(trainer):
        if not isinstance(callback, ModelCheckpoint) or callback.dirpath is None:
            continue
        given = str(callback.dirpath)
        if "://" in given:
            callback.dirpath = f"{given.rstrip('/')}/{folder.name}"
        elif not Path(given).is_relative_to(folder):
            callback.dirpath = str(folder / Path(given).name)


def _get_rank() -> int:
    """The rank of this process, as Lightning knows it, with a Trainer or without."""
    return int(getattr(rank_zero_only, "rank", 0))


def _refuse_trainer(trainer: Trainer) -> None:
    """Raise ``ConfigError`` for a Trainer whose strategy or callbacks will not do."""
    if starts_ranks_in_call(trainer):
        raise ConfigError(
            "make_trainer gave a Trainer whose strategy starts its ranks by spawn or fork, and a "
            'fit in them is lost here: take strategy="ddp" (in a script), or devices=1 with '
            'strategy="auto"'
        )
    if any(isinstance(each, PredictionWriter) for each in get_callbacks(trainer)):
        raise ConfigError(
            "make_trainer gave a Trainer with a PredictionWriter: leave it out, run_folds writes "
            "the forecasts of each fold"
        )


class _Fresh:
    """Sees that what is made for one fold was not made for another."""

    def __init__(self) -> None:
        self._seen: dict[int, weakref.ref[Any]] = {}

    def check(self, made: Any, kind: type[Any], maker: str) -> Any:
        """What was made.

        Raises:
            ConfigError: if it is none of ``kind``, or it or a part of it was made before.
        """
        if not isinstance(made, kind):
            raise ConfigError(
                f"{maker} gave {name_type(made)}: it must return a new {kind.__name__} each time"
            )
        parts = [made, *(made.parameters() if isinstance(made, LightningModule) else ())]
        for part in parts:
            ref = self._seen.get(id(part))
            if ref is not None and ref() is part:
                what = "the same object" if part is made else "parameters of the same model"
                raise ConfigError(
                    f"{maker} gave {what} for two folds, so that one would begin with what another "
                    f"has learned: make a new {kind.__name__} in it each time"
                )
        self._seen |= {id(part): weakref.ref(part) for part in parts}
        return made


def _score(
    whole: BTCDataModule, found: FoldRuns, quantiles: Sequence[float] | None, draws: bool
) -> FoldRuns:
    """The same with a score, or with a note on why there is none: the forecasts are there."""
    if find_spec("scipy") is None:
        note = "not scored: scores need scipy: pip install scipy, then "
        note += f"dm.score({str(found.forecasts)!r})"
        return replace(found, notes=(*found.notes, note))
    try:
        card = whole.score(found.forecasts, quantiles=quantiles, draws=draws)
    except ConfigError as error:
        return replace(found, notes=(*found.notes, f"not scored: {error}"))
    return replace(found, card=card)
