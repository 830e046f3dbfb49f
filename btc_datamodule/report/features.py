"""A card for each feature: how its values are spread in each stage, and what goes with them."""

import numpy as np

from btc_datamodule.evaluation.splits import Stage
from btc_datamodule.overview.distributions import LARGE_DRIFT, SMALL_DRIFT, Distribution
from btc_datamodule.report.alerts import grade_feature, list_own
from btc_datamodule.report.facts import Facts
from btc_datamodule.report.html import Child, Html, element, table
from btc_datamodule.report.plots import Plot
from btc_datamodule.report.ticks import Tick, list_numbers, write_number, write_share

MOST_CARDS = 48
LONGEST_TEXT = 300
"""Letters of the text of a feature."""


def make_features(facts: Facts) -> Html:
    """The section."""
    texts = {feature.name: feature.text for feature in facts.stages.settings.features}
    own = {each.name for each in list_own(facts)}
    grades = {each.name: grade_feature(each) for each in facts.features if each.name in own}
    cards = [
        _make_card(each, texts.get(each.name, ""), *grades.get(each.name, ("good", "")))
        for each in choose_cards(facts)
    ]
    more = len(facts.features) - len(cards)
    return element(
        "section",
        element("h2", f"Features ({len(facts.features):,})"),
        element(
            "p",
            "As they are before scaling. Each curve is a density of its own, so that stages of "
            "different length can be compared; what lies beyond the ends counts to the last bin. "
            f"Drift is the population stability index against train: up to {SMALL_DRIFT:g} small, "
            f"from {LARGE_DRIFT:g} on large. Autocorrelation is that of train, by lag in bars.",
            class_="dim",
        ),
        make_stage_legend(
            [*dict.fromkeys(stage for each in facts.features for stage in each.density)]
        ),
        element("div", cards, class_="cards"),
        element(
            "p", f"And {more:,} more, which have no card here: those that stand out come first."
        )
        if more > 0
        else None,
        id="features",
    )


def choose_cards(facts: Facts) -> list[Distribution]:
    """The features that have a card; of too many the worst, and these first."""
    if len(facts.features) <= MOST_CARDS:
        return list(facts.features)

    def rank(feature: Distribution) -> tuple[bool, bool, float]:
        grade, _ = grade_feature(feature)
        worst = max(feature.drift.values(), default=0.0)
        return grade != "bad", grade != "warn", -worst if grade == "warn" else 0.0

    own = sorted(list_own(facts), key=rank)
    return own[:MOST_CARDS]


def make_stage_legend(stages: list[str]) -> Html:
    """Colours of stages."""
    marks = [element("span", element("i", class_=stage), stage) for stage in stages]
    return element("div", marks, class_="legend")


def _make_card(feature: Distribution, text: str, grade: str, tag: str) -> Html:
    shown = text if text != feature.name else ""
    if len(shown) > LONGEST_TEXT:
        shown = f"{shown[:LONGEST_TEXT]}…"
    return element(
        "article",
        element("h3", element("span", feature.name), element("span", tag, class_=f"tag {grade}")),
        element("p", element("code", shown), class_="dim") if shown else None,
        draw_density(feature),
        table(
            ["", "mean", "deviation", "missing", "drift"],
            [_list_cells(feature, stage) for stage, rows in feature.rows.items() if rows],
        ),
        _tell_autocorrelation(feature),
        class_="card",
    )


def _list_cells(feature: Distribution, stage: Stage) -> list[Child]:
    nothing, drift = float("nan"), feature.drift.get(stage)
    return [
        stage,
        write_number(feature.mean.get(stage, nothing), 3),
        write_number(feature.deviation.get(stage, nothing), 3),
        write_share(feature.missing.get(stage, nothing)),
        "" if drift is None else f"{drift:.2f}",
    ]


def draw_density(feature: Distribution) -> Html:
    """The densities of all stages over each other."""
    top = max((float(each.max()) for each in feature.density.values()), default=0.0)
    label = f"Distribution of {feature.name} in {', '.join(feature.density) or 'no stage'}"
    low, high = float(feature.edges[0]), float(feature.edges[-1])
    plot = Plot((low, high), (0, top * 1.05 or 1), label)
    for stage, density in feature.density.items():
        plot.add_steps(feature.edges, density, stage)
    return plot.render(_thin(list_numbers(low, high, 4)), class_="low bare")


def _thin(ticks: list[Tick]) -> list[Tick]:
    """Fewer marks where their words are long."""
    longest = max((len(tick.text) for tick in ticks), default=0)
    return ticks if longest * len(ticks) < 36 or len(ticks) < 3 else ticks[::2]


def _tell_autocorrelation(feature: Distribution) -> Html | None:
    known = {lag: value for lag, value in feature.autocorrelation.items() if np.isfinite(value)}
    if not known:
        return None
    plot = Plot((0, len(known)), (-1, 1), f"Autocorrelation of {feature.name} in train")
    for place, value in enumerate(known.values()):
        low, high = sorted((0.5, 0.5 + float(np.clip(value, -1, 1)) / 2))
        plot.add_boxes([(place + 0.25, place + 0.75)], "train", y=(low, max(high, low + 0.012)))
    ticks = [Tick(place + 0.5, str(lag)) for place, lag in enumerate(known)]
    told = ", ".join(f"{lag}: {value:+.2f}" for lag, value in known.items())
    return element(
        "div",
        element("div", "autocorrelation, -1 to 1, by lag in bars", class_="dim"),
        plot.render(ticks, [Tick(0, "")], class_="bare acf"),
        title=told,
    )
