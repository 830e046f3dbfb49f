"""What can be wrong with the arguments of a datamodule, found before anything is trained."""

from typing import TYPE_CHECKING

from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.errors import ConfigError
from btc_datamodule.evaluation.scaling import SCALINGS
from btc_datamodule.evaluation.splits import STAGES
from btc_datamodule.features.table import BAR_COLUMNS

if TYPE_CHECKING:
    from btc_datamodule.datamodule import BTCDataModule

_LEAST = {
    **dict.fromkeys(("lookback", "horizon", "batch_size", "stride", "eval_stride"), 1),
    **dict.fromkeys(("gap", "purge", "embargo", "max_fill", "num_workers"), 0),
}
_CHOICES: dict[str, tuple[str | None, ...]] = {
    "context": ("allow", "strict"),
    "shuffle": ("full", "block", "none"),
    "scaling": SCALINGS,
    "target_scaling": ("train", "robust", "none"),
    "gather": ("host", "device"),
    "start_method": (None, "fork", "spawn", "forkserver"),
}


def check_arguments(data: "BTCDataModule") -> None:
    """Raise ``ConfigError`` for the first argument that is wrong on the face of it."""
    for name, least in _LEAST.items():
        value = data.shape.gap if name == "gap" else getattr(data, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(f"{name} is {value!r}: it must be a whole number from {least} up")
    for name, choices in _CHOICES.items():
        if getattr(data, name) not in choices:
            offered = ", ".join(map(str, choices))
            raise ConfigError(f"{name} is {getattr(data, name)!r}: choose one of {offered}")
    share = data.min_observed
    if not isinstance(share, int | float) or not 0 < share <= 1:
        raise ConfigError(f"min_observed is {share!r}: it must be a number in (0, 1]")
    if data.start is not None and data.end is not None and data.start >= data.end:
        raise ConfigError(
            f"the range is empty: start {format_instant(data.start)} is not before "
            f"end {format_instant(data.end)}"
        )
    if not data.target_shape:
        raise ConfigError(f"target {data.target!r} must have a shape of one axis or more")
    context, unknown = data.target.context, set(data.target.columns) - set(BAR_COLUMNS)
    if not isinstance(context, int) or context < 0 or unknown:
        raise ConfigError(
            f"target {data.target!r}: context is {context!r} and must be a whole number from 0 up, "
            f"columns are {list(data.target.columns)} and must be of {', '.join(BAR_COLUMNS)}"
        )


def check_stages(data: "BTCDataModule") -> None:
    """Raise ``ConfigError`` if a stage has no window, or train not even one batch."""
    table, shape = data.table, data.shape
    stages = [stage for stage in STAGES if stage != "predict" and data.fold.spans(stage)]
    counts = {stage: len(data.dataset(stage)) for stage in stages}
    shown = ", ".join(f"{stage} {count:,}" for stage, count in counts.items())
    before = max(table.warm_up + shape.lookback + shape.gap, shape.context)
    need = before + shape.horizon
    if table.rows < need:
        raise ConfigError(
            f"a sample needs {need} bars (warm-up {table.warm_up}, lookback {shape.lookback}, "
            f"gap {shape.gap}, horizon {shape.horizon}, bars that the target is measured from "
            f"{shape.context}) and there are {table.rows}: "
            "shorten `lookback` or widen `start` and `end`"
        )
    if not all(counts.values()):
        raise ConfigError(
            f"the split leaves a stage without windows ({shown}, of {table.rows:,} bars): "
            "give it more time in `split`, shorten `lookback`, `horizon` or what `target` is "
            "measured from, or, if holes are the cause, raise `max_fill` or lower `min_observed`"
        )
    whole = data.batch_size * data.ranks[0]
    if counts["train"] < whole:
        raise ConfigError(
            f"train has fewer windows than one batch ({shown}, batch {whole}): "
            "lower `batch_size` or `stride`, or widen `start` and `end`"
        )
