"""Forecasts against what came, beside baselines of the same samples, and money by a plain rule."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from btc_datamodule.candles.timeline import Span
from btc_datamodule.overview.forecasts import ForecastView, view_forecasts
from btc_datamodule.report.facts import Facts
from btc_datamodule.report.html import Child, Html, element, join, table
from btc_datamodule.report.plots import Plot
from btc_datamodule.report.ticks import (
    list_numbers,
    list_prices,
    list_times,
    write_number,
    write_time,
)
from btc_datamodule.scoring.beside import HOLD
from btc_datamodule.scoring.kinds import Kind, Measured
from btc_datamodule.scoring.ledger import WHAT_IT_IS, Ledger
from btc_datamodule.scoring.measures import Interval
from btc_datamodule.scoring.score import LEAST, Score, Verdict

SHOWN = 4
"""Forecasts that have a colour of their own."""

LATEST = 150
"""Samples that are drawn one by one."""

POINTS = 600
"""Of a line over all samples."""

LOSSES: Mapping[Kind, str] = {
    "value": "mean squared error",
    "volatility": "mean QLIKE",
    "classes": "share of wrong classes",
}
"""By which forecasts are compared; see ``scoring.kinds.compute_losses``."""

Numbers = NDArray[np.float64]
Losses = Mapping[str, Numbers]


def make_forecasts(facts: Facts) -> Html | None:
    """The section; None where there are no forecasts."""
    if facts.card is None:
        return None
    score, ledger = facts.card.score, facts.card.ledger
    view, times = view_forecasts(score), score.origin_time
    told = (
        f"{score.stage}: {len(times):,} samples, origins from {write_time(int(times[0]))} to "
        f"{write_time(int(times[-1]))} UTC."
    )
    names = (*score.forecasts, *score.baselines)
    if score.overlap > 1:
        told += f" Up to {score.overlap} targets overlap; intervals and p-values allow for it."
    return element(
        "section",
        element("h2", "Forecasts"),
        element("p", told),
        _make_verdicts(
            score,
            {name: score.judge(name) for name in score.forecasts},
            score.losses,
            LOSSES[view.kind],
        ),
        _make_measures({name: score.measure(name) for name in names}, score.forecasts),
        _draw_lead(score, view),
        _draw_values(view),
        _make_spreads(score),
        _make_money(ledger) if ledger is not None else None,
        element("ul", [element("li", note) for note in score.notes]) if score.notes else None,
        id="forecasts",
    )


def _make_verdicts(
    score: Score, verdicts: Mapping[str, Verdict | None], losses: Losses, loss: str
) -> Html:
    items = []
    for name, verdict in verdicts.items():
        if verdict is None:
            grade, word, told = "warn", "untested", f" has fewer than {LEAST} samples"
        else:
            base = float(losses[verdict.baseline].mean())
            low, middle, high = (
                f"{100 * each / base:+.3g}" if base else "-"
                for each in (
                    verdict.difference.low,
                    verdict.difference.value,
                    verdict.difference.high,
                )
            )
            grade, word = "good" if verdict.is_better else "warn", verdict.word
            told = (
                f" than {verdict.baseline!r}, the best baseline: {loss} {middle} % "
                f"({score.level:.0%} interval {low} to {high} %), p = {verdict.test.p_value:.2g}"
            )
        items.append(
            element(
                "li",
                element("b", word, class_=grade),
                element("span", element("strong", name), told),
            )
        )
    return element("ul", items, class_="marks")


def _make_measures(measured: Mapping[str, Measured], forecasts: Collection[str]) -> Html:
    columns = list(dict.fromkeys(what for each in measured.values() for what in each))
    rows: list[list[Child]] = [
        [
            name if name in forecasts else f"baseline {name}",
            *(_write(each.get(what)) for what in columns),
        ]
        for name, each in measured.items()
    ]
    return table(["", *(column.replace("_", " ") for column in columns)], rows)


def _make_spreads(score: Score) -> Html | None:
    """Forecasts that tell distributions, by what these are measured by."""
    if not score.spreads:
        return None
    names = (*score.spreads, *score.spread_baselines)
    spread_loss = "mean pinball loss" if score.manner and score.manner.levels else "mean CRPS"
    verdicts = {name: score.judge_spread(name) for name in score.spreads}
    return element(
        "div",
        element("h3", "As distributions"),
        _make_verdicts(score, verdicts, score.spread_losses, spread_loss),
        _make_measures({name: score.measure_spread(name) for name in names}, score.spreads),
    )


def _write(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Interval):
        return f"{value.value:.3f} ({value.low:.3f} to {value.high:.3f})"
    return write_number(value)


def _make_legend(names: list[str], first: Html | None = None) -> Html:
    marks = [
        element("span", element("i", class_=f"s{number}"), name)
        for number, name in enumerate(names)
    ]
    return element("div", first, marks, class_="legend")


def _draw_lead(score: Score, view: ForecastView) -> Html:
    """How the lead over the best baseline grows, loss by loss."""
    names = [*view.lead][:SHOWN]
    total = float(score.losses[view.best].sum()) or 1.0
    leads = {name: -view.lead[name] / total for name in names}
    low = min(0.0, *(float(each.min()) for each in leads.values()))
    high = max(0.0, *(float(each.max()) for each in leads.values()))
    more = (high - low) * 0.05 or 1e-6
    span = _find_span(view.times)
    plot = Plot(span, (low - more, high + more), f"Lead over {view.best}, cumulated")
    plot.add_line(np.array(span, dtype=np.float64), np.zeros(2), "dashed faint")
    chosen = _thin(len(view.times))
    for number, name in enumerate(names):
        plot.add_line(view.times[chosen].astype(np.float64), leads[name][chosen], f"s{number}")
    marks = [
        tick._replace(text=f"{100 * tick.at + 0.0:+.3g} %".replace("+0 %", "0 %"))
        for tick in list_numbers(low - more, high + more, 4)
    ]
    return element(
        "div",
        element(
            "p",
            f"Lead over {view.best!r}: losses saved so far, as a share of all losses of the "
            "baseline. A forecast with skill climbs all the way; one jump is an episode.",
            class_="dim",
        ),
        _make_legend(names),
        plot.render(list_times(span), marks, class_="mid"),
    )


def _draw_values(view: ForecastView) -> Html:
    """The last samples one by one; of classes how often they were right, over all samples."""
    names = [*view.lead][:SHOWN]
    few = slice(-LATEST, None) if view.truth is not None else _thin(len(view.times))
    times = view.times[few].astype(np.float64)
    lines = {name: view.values[name][few] for name in names}
    others = {f"baseline {view.best}": view.values[view.best][few]}
    if view.truth is None:
        told = f"The share of right classes, of the last {view.window:,} samples each."
    else:
        others |= {"what came": view.truth[few]}
        told = (
            f"The last {len(times):,} samples, in the unit of the target; of several bars the last."
        )
    everything = np.concatenate([*lines.values(), *others.values()])
    low, high = float(everything.min()), float(everything.max())
    more = (high - low) * 0.05 or 1e-6
    span = _find_span(times)
    plot = Plot(span, (low - more, high + more), told)
    gaps = np.flatnonzero(np.diff(times) > 3 * np.median(np.diff(times))) + 1
    for class_, values in (
        *zip(("faint", "price"), others.values(), strict=False),
        *((f"s{number}", each) for number, each in enumerate(lines.values())),
    ):
        plot.add_line(np.insert(times, gaps, np.nan), np.insert(values, gaps, np.nan), class_)
    first = join(
        element("span", element("i", class_=class_), name)
        for class_, name in zip(("faint", "price"), others, strict=False)
    )
    return element(
        "div",
        element("p", told, class_="dim"),
        _make_legend(names, first),
        plot.render(list_times(span), list_numbers(low - more, high + more, 4), class_="mid"),
    )


def _make_money(ledger: Ledger) -> Html:
    shares = ("gross", "net", "drawdown")
    frame = ledger.to_polars()
    columns = [name for name in frame.columns if name != "forecast"]
    rows = []
    for row in frame.to_dicts():
        own = row["forecast"] in (*ledger.score.forecasts, HOLD)
        cells = [
            f"{row[name]:,}"
            if name == "periods"
            else f"{100 * row[name]:{'+' * (name != 'drawdown')},.1f} %"
            if name in shares
            else f"{row[name]:.2f}"
            for name in columns
        ]
        rows.append([row["forecast"] if own else f"baseline {row['forecast']}", *cells])
    luck = ledger.compute_overfitting()
    told = (
        f"Probability that the best of these is so by luck: {luck:.2f}." if luck is not None else ""
    )
    return element(
        "div",
        element("h3", f"Money, at {ledger.cost:g} basis points a side"),
        element("p", f"{WHAT_IT_IS[:1].upper()}{WHAT_IT_IS[1:]}. {told}", class_="dim"),
        _draw_money(ledger),
        table(["", *(column.replace("_", " ") for column in columns)], rows),
    )


def _draw_money(ledger: Ledger) -> Html:
    """What 1 comes to, net of costs."""
    names = [name for name in ledger.score.forecasts if name in ledger.runs][:SHOWN]
    times = ledger.score.origin_time[ledger.places].astype(np.float64)
    worth = {name: _grow(ledger.runs[name].net) for name in (HOLD, *names)}
    low = min(float(each.min()) for each in worth.values())
    high = max(float(each.max()) for each in worth.values())
    span = _find_span(times)
    plot = Plot(span, (low * 0.97, high * 1.03), "What 1 comes to, net of costs", log=True)
    chosen = _thin(len(times))
    plot.add_line(times[chosen], worth[HOLD][chosen], "price")
    for number, name in enumerate(names):
        plot.add_line(times[chosen], worth[name][chosen], f"s{number}")
    ends = [
        element("span", element("i", class_="price"), f"{HOLD} {100 * worth[HOLD][-1]:.1f} %"),
        *(
            element(
                "span", element("i", class_=f"s{number}"), f"{name} {100 * worth[name][-1]:.1f} %"
            )
            for number, name in enumerate(names)
        ),
    ]
    return element(
        "div",
        element("div", element("span", "what is left of 100 %:"), ends, class_="legend"),
        plot.render(list_times(span), list_prices(low * 0.97, high * 1.03, 4), class_="mid"),
    )


def _grow(returns: Numbers) -> Numbers:
    return np.maximum(1 + returns, 1e-9).cumprod()


def _thin(count: int) -> NDArray[np.int64]:
    """Numbers of samples for a line of ``POINTS``."""
    places: NDArray[np.int64] = (
        np.linspace(0, count - 1, min(count, POINTS)).round().astype(np.int64)
    )
    return places


def _find_span(times: NDArray[np.number]) -> Span:
    first, last = int(times[0]), int(times[-1])
    return first, max(last, first + 1)
