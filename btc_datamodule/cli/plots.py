"""``plot``: a picture of the datamodule, written to a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from btc_datamodule.disk.atomic import check_output, replace_file
from btc_datamodule.errors import ConfigError
from btc_datamodule.evaluation.splits import Stage
from btc_datamodule.pictures.needed import check_matplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from btc_datamodule.datamodule import BTCDataModule

Kind = Literal["timeline", "holes", "folds", "batch", "features", "forecasts"]

DOTS = 120
"""An inch."""


def write_picture(
    data: "BTCDataModule",
    path: str | Path,
    kind: Kind = "timeline",
    forecasts: Sequence[str] = (),
    stage: Stage = "test",
    *,
    quantiles: Sequence[float] | None = None,
    draws: bool = False,
) -> Path:
    """Set a datamodule up, and write a picture of it; give the path.

    Args:
        data: the datamodule.
        path: of a file that ends in a kind of picture, such as .png, .svg or .pdf.
        kind: which of its ``plot_`` methods draws.
        forecasts: files that ``PredictionWriter`` wrote, for that kind.
        stage: of which stage they are scored.
        quantiles: levels of forecasts that are quantiles.
        draws: whether forecasts are draws.

    Raises:
        ConfigError: if matplotlib is not installed, the name ends in no kind of picture, or there
            are forecasts and another kind, or the other way round.
        StoreError: if the file cannot be written.
    """
    if kind == "forecasts" and not forecasts:
        raise ConfigError(
            "--kind forecasts has no files: give --forecasts FILE.parquet, as PredictionWriter "
            "wrote it"
        )
    if forecasts and kind != "forecasts":
        raise ConfigError(f"--kind {kind} takes no --forecasts: give --kind forecasts")
    check_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    kinds = sorted(FigureCanvasAgg.get_supported_filetypes())
    path = check_output(path, [f".{each}" for each in kinds])
    data.setup()
    if kind == "forecasts":
        figure = data.plot_forecasts(list(forecasts), stage, quantiles=quantiles, draws=draws)
    else:
        figure = _draw(data, kind)
    with replace_file(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=DOTS)
    return path


def _draw(data: "BTCDataModule", kind: Kind) -> "Figure":
    match kind:
        case "holes":
            return data.plot_holes()
        case "folds":
            return data.plot_folds()
        case "batch":
            return data.plot_batch()
        case "features":
            return data.plot_features()
        case _:
            return data.plot_timeline()
