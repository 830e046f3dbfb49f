"""The stages span by span, and all folds of the split below each other."""

from datetime import datetime
from typing import Any

from btc_datamodule.report.alerts import REASONS, tell_reasons
from btc_datamodule.report.facts import Facts
from btc_datamodule.report.features import make_stage_legend
from btc_datamodule.report.html import Child, Html, element, table
from btc_datamodule.report.plots import Plot
from btc_datamodule.report.ticks import Tick, list_times, write_count

MOST_SPANS = 60


def make_windows(facts: Facts) -> Html:
    """The section on how many windows there are, and what was left out."""
    names = [name for name in REASONS if any(row[name] for row in facts.counts)]
    head = ["stage", "from (UTC)", "to (UTC)", "bars", "windows", "eligible", *names, "scored"]
    rows = [_list_cells(row, names) for row in facts.counts[:MOST_SPANS]]
    more = len(facts.counts) - len(rows)
    words = tell_reasons(facts.stages.settings)
    reasons = "; ".join(f"{name}: {words[name].replace('`', '')}" for name in names)
    return element(
        "section",
        element("h2", "Windows of each stage"),
        table(head, rows, class_="counts"),
        element("p", f"And {write_count(more, 'span')} more.") if more > 0 else None,
        element(
            "p",
            "windows: at the stride of the stage; eligible: bars that may be an origin; scored: "
            "target bars of val and test, each in one window. ",
            f"Left out are bars, because {reasons}." if reasons else "",
            class_="dim",
        ),
        id="windows",
    )


def _list_cells(row: Any, names: list[str]) -> list[Child]:
    def tell(value: Any) -> str:
        if isinstance(value, datetime):
            return f"{value:%Y-%m-%d %H:%M}"
        return "-" if value is None else f"{value:,}"

    columns = ["from", "to", "bars", "windows", "eligible", *names, "scored"]
    return [row["stage"], *(tell(row[name]) for name in columns)]


def make_folds(facts: Facts) -> Html:
    """The section with the map of the folds."""
    folds = facts.folds
    count = len(folds.numbers)
    plot = Plot(folds.span, (count, 0), f"The spans of {write_count(count, 'fold')}")
    for place, (number, ribbons) in enumerate(zip(folds.numbers, folds.ribbons, strict=True)):
        low, high = 1 - (place + 0.9) / count, 1 - (place + 0.1) / count
        if number == folds.chosen and count > 1:
            plot.add_boxes(
                [folds.span], "tint faint", y=(1 - (place + 1) / count, 1 - place / count)
            )
        for kind, stage in dict.fromkeys((each.kind, each.stage) for each in ribbons):
            spans = [each.span for each in ribbons if (each.kind, each.stage) == (kind, stage)]
            plot.add_boxes(spans, stage if kind == "stage" else kind, y=(low, high))
    every = -(-count // 20)
    ticks = [
        Tick(place + 0.5, f"fold {number}{' ◂' if number == folds.chosen and count > 1 else ''}")
        for place, number in enumerate(folds.numbers)
        if number == folds.chosen
        or (place % every == 0 and abs(place - folds.numbers.index(folds.chosen)) >= every)
    ]
    stages = dict.fromkeys(each.stage for row in folds.ribbons for each in row)
    told = "There is one fold." if folds.total == 1 else (
        f"{folds.total:,} folds; ◂ marks the one in use, {folds.chosen}"
        + (f"; {count:,} of them are shown." if count < folds.total else ".")
    )  # fmt: skip
    return element(
        "section",
        element("h2", "Folds"),
        element("p", element("code", repr(facts.stages.settings.split)), ". ", told),
        make_stage_legend([*stages]),
        element(
            "div",
            plot.render(list_times(folds.span), ticks, class_="names nogrid"),
            style=f"--rows:{max(50, min(22 * count, 640))}px",
            class_="inputs",
        ),
        _list_paths(facts),
        id="folds",
    )


def _list_paths(facts: Facts) -> Html | None:
    """Which fold forecasts each group in each path of a combinatorial split."""
    paths = facts.folds.paths
    if paths is None:
        return None
    shown = paths[:20].tolist()
    head = ["path", *(f"group {number}" for number in range(paths.shape[1]))]
    rows = [[str(number), *(f"fold {fold}" for fold in path)] for number, path in enumerate(shown)]
    more = len(paths) - len(shown)
    return element(
        "details",
        element("summary", f"Backtest paths: {len(paths):,}"),
        element(
            "p", "In each path every group of time is forecast once, by the fold that is named."
        ),
        table(head, rows),
        element("p", f"And {more:,} more.") if more > 0 else None,
    )
