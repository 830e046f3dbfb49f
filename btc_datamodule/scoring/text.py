"""A score as text: what was forecast, each measure beside baselines, a verdict, and money."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from btc_datamodule.candles.timeline import format_instant
from btc_datamodule.escaping import escape
from btc_datamodule.scoring.beside import HOLD
from btc_datamodule.scoring.groups import compare_paths
from btc_datamodule.scoring.kinds import Measured, find_kind
from btc_datamodule.scoring.ledger import LEAST_COMPARED, WHAT_IT_IS, Ledger
from btc_datamodule.scoring.measures import Interval
from btc_datamodule.scoring.score import LEAST, Score

if TYPE_CHECKING:
    import polars as pl

SIGNIFICANT = 4
"""Digits of a measure."""

LOSSES = {
    "value": "mean squared error",
    "volatility": "mean QLIKE",
    "classes": "share of wrong classes",
    "pinball": "mean pinball loss",
    "crps": "mean CRPS",
}
"""What forecasts are compared by."""

FAR = 1000
"""Times what was put in: more than that has two digits."""

MONEY = ("gross", "net", "hold", "sharpe")
"""Columns of groups that ``Ledger`` has as well."""


def tell_score(score: Score, ledger: Ledger | None) -> str:
    """All of a score, for a person to read."""
    parts = [_tell_samples(score), _tell_measures(score), _tell_verdicts(score)]
    if score.spreads:
        parts += [_tell_spreads(score), _tell_verdicts(score, of_spreads=True)]
    if ledger is not None:
        parts.append(_tell_money(ledger))
    if score.notes:
        parts.append("\n".join(f"note: {escape(note)}" for note in score.notes))
    return "\n\n".join(parts)


def _tell_samples(score: Score) -> str:
    times = score.origin_time
    folds = f"fold {', '.join(map(str, sorted({*score.fold.tolist()})))}"
    told = (
        f"{score.stage}, {folds}: {len(times):,} sample{'s' * (len(times) > 1)} of "
        f"{score.target!r}, whose origins are the bars from {format_instant(int(times[0]))} to "
        f"{format_instant(int(times[-1]))}"
    )
    if score.overlap > 1:
        told += f"\nUp to {score.overlap} targets overlap: intervals and p-values allow for it"
    return told


def _tell_measures(score: Score) -> str:
    names = [*score.forecasts, *score.baselines]
    measured = {name: score.measure(name) for name in names}
    return _lay_out_measured(measured, line_after=len(score.forecasts))


def _tell_spreads(score: Score) -> str:
    names = [*score.spreads, *score.spread_baselines]
    measured = {name: score.measure_spread(name) for name in names}
    return _lay_out_measured(measured, line_after=len(score.spreads))


def _lay_out_measured(measured: Mapping[str, Measured], line_after: int) -> str:
    columns = list(dict.fromkeys(what for each in measured.values() for what in each))
    rows = [
        [name, *(_format(each.get(what)) for what in columns)] for name, each in measured.items()
    ]
    return lay_out(["", *columns], rows, line_after)


def _tell_verdicts(score: Score, *, of_spreads: bool = False) -> str:
    lines = []
    losses = score.spread_losses if of_spreads else score.losses
    judge = score.judge_spread if of_spreads else score.judge
    loss = LOSSES[score.manner.loss if score.manner and of_spreads else find_kind(score.target)]
    for name in score.spreads if of_spreads else score.forecasts:
        verdict = judge(name)
        if verdict is None:
            lines.append(
                f"{escape(name)}: nothing is tested, as fewer than {LEAST} samples do not overlap"
            )
            continue
        base = float(losses[verdict.baseline].mean())
        value, low, high = verdict.difference
        unit = " %" if base else ""  # of a baseline without any loss there is no share
        value, low, high = (100 * each / base if base else each for each in (value, low, high))
        side = "below" if value < 0 else "above"
        where = f"{abs(value):.3g}{unit} {side}" if value else "the same"
        lines.append(
            f"{escape(name)} is {verdict.word} than {verdict.baseline!r}, the best baseline: its "
            f"{loss} is {where} ({100 * score.level:.4g} % interval {low:+.3g} to {high:+.3g}"
            f"{unit}, p = {verdict.test.p_value:.2g})"
        )
    return "\n".join(lines)


def _tell_money(ledger: Ledger) -> str:
    frame = ledger.to_polars()
    columns = [name for name in frame.columns if name not in ("forecast", "periods")]
    rows = [
        [str(row["forecast"]), *(_format_money(name, row[name]) for name in columns)]
        for row in frame.to_dicts()
    ]
    first = [row for row in rows if row[0] in (*ledger.score.forecasts, HOLD)]
    others = [row for row in rows if row not in first]
    told = [
        f"Money, {len(ledger.places):,} periods, {ledger.cost:g} basis points a side, "
        f"{ledger.counted_trials} tried: {WHAT_IT_IS}",
        lay_out(["", *columns], [*first, *others], line_after=len(first)),
    ]
    if ledger.pauses:
        told.append(
            "periods that begin some time after the one before ends, in between which only buying "
            f"and holding holds anything: {ledger.pauses:,}"
        )
    return "\n".join([*told, *_tell_overfitting(ledger)])


def _tell_overfitting(ledger: Ledger) -> list[str]:
    """Of several forecasts, or of the paths of one, whether the best is so by luck."""
    several, over_paths = len(ledger.score.forecasts) > 1, compare_paths(ledger)
    if over_paths is not None:
        what = "forecasts, path by path" if several else "paths"
        return [f"Probability of backtest overfitting among the {what}: {over_paths:.2f}"]
    if not several:
        return []
    found = ledger.compute_overfitting()
    if found is None:
        return [
            f"Probability of backtest overfitting: not told, it needs {LEAST_COMPARED} periods "
            f"(there are {len(ledger.places):,}) and two forecasts that have a direction"
        ]
    return [f"Probability of backtest overfitting among the forecasts: {found:.2f}"]


def tell_groups(frame: "pl.DataFrame") -> str:
    """A table of ``groups.score_groups``, for a person to read: bounds beside what they bound."""
    columns = [name for name in frame.columns if not name.endswith(("_low", "_high"))]
    rows = []
    for row in frame.to_dicts():
        cells = []
        for name in columns:
            value = row[name]
            if isinstance(value, str):
                cells.append(value)
            elif name == "samples":
                cells.append(f"{value:,}")
            elif name in MONEY:
                cells.append("-" if value is None else _format_money(name, value))
            else:
                cells.append(_format(value))
            low = row.get(f"{name}_low")
            if low is not None:
                cells[-1] += f" ({_format(low)} to {_format(row[f'{name}_high'])})"
        rows.append(cells)
    return lay_out(columns, rows, line_after=len(rows))


def _format(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Interval):
        return f"{value.value:.3f} ({value.low:.3f} to {value.high:.3f})"
    return f"{value:.{SIGNIFICANT}g}" if np.isfinite(value) else "-"


def _format_money(name: str, value: float) -> str:
    if not np.isfinite(value):
        return "-"
    if name in ("gross", "net", "hold", "drawdown"):
        if abs(value) > FAR:
            return f"{100 * value:+.2g} %"
        return f"{100 * value:+.1f} %" if name != "drawdown" else f"{100 * value:.1f} %"
    return f"{value:.2f}"


def lay_out(head: Sequence[str], rows: Sequence[Sequence[str]], line_after: int) -> str:
    """A table of text: the first column to the left, all others to the right."""
    cells = [head, *rows]
    widths = [max(len(row[place]) for row in cells) for place in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if not place else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    if line_after < len(rows):
        lines.insert(1 + line_after, "-" * len(lines[0]))
    return "\n".join(escape(line) for line in lines)
