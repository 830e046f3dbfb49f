"""What a person must know before trusting a figure: the verdict, and the alerts behind it.

An alert says what was found, in figures, and where on the page it is seen. The limits are rules of
thumb, and named here.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from btc_datamodule.candles.runs import count_rows, subtract_runs
from btc_datamodule.checks import list_first
from btc_datamodule.features.layout import FLAG
from btc_datamodule.features.table import Table
from btc_datamodule.overview.distributions import LARGE_DRIFT, SHOWN, Distribution
from btc_datamodule.overview.labels import Labels
from btc_datamodule.report.facts import Facts
from btc_datamodule.report.ticks import write_count, write_length, write_number, write_share
from btc_datamodule.settings import Settings

Grade = Literal["bad", "warn", "note"]
ORDER: tuple[Grade, ...] = ("bad", "warn", "note")

FEW_SCORED = 250
"""Windows of val or test below which a rate of a half has a 95 % interval of 6 points or more."""

MANY_LEFT_OUT = 0.2
MANY_MISSING = 0.05
MANY_OUT = 0.01
"""Shares above which something is left out, missing, or an outage, that a person should look at."""

FAR_SHARES = 0.1
"""Total variation between the classes of two stages."""

FAR_WIDTHS = 2.0
"""Ratio between the standard deviations of the targets of two stages."""

REASONS = {
    "end": "their target would cross the end of the stage",
    "purge": "`purge` keeps them out",
    "history": "too little comes before them",
    "embargo": "`embargo` keeps them out",
    "target": "their target lies in an outage",
    "origin": "there is no candle at their origin",
    "inputs": "too few of their inputs are observed",
    "undefined": "a feature has no value",
}


def tell_reasons(settings: Settings) -> dict[str, str]:
    """Why bars are no origin of a window, by the names of ``Stages.describe``."""
    beside = ", or a series beside the candles is not known there" * bool(settings.covariates)
    return REASONS | {"origin": REASONS["origin"] + beside}


class Alert(NamedTuple):
    """What was found.

    Attributes:
        grade: ``bad`` for what must be mended, ``warn`` for what should be looked at, ``note`` for
            what should be known.
        text: a sentence.
        place: the section that shows it.
    """

    grade: Grade
    text: str
    place: str


def list_alerts(facts: Facts) -> list[Alert]:
    """All alerts, the gravest first."""
    found = [
        *_watch_audit(facts),
        *_watch_forecasts(facts),
        *_watch_windows(facts),
        *_watch_features(list_own(facts)),
        *_watch_targets(facts.labels),
        *_watch_holes(facts),
    ]
    return sorted(found, key=lambda each: ORDER.index(each.grade))


def give_verdict(facts: Facts, alerts: Sequence[Alert]) -> tuple[str, str]:
    """The grade of all, ``good`` among them, and one sentence or two."""
    counts = {grade: sum(each.grade == grade for each in alerts) for grade in ORDER}
    audit = facts.audit
    if audit is None:
        checked = (
            "Whether anything of the future leaks was not checked: the audit was not run "
            "(`btc-datamodule report --audit true`)."
        )
    elif audit.failed:
        checked = f"The audit found {write_count(len(audit.failed), 'broken guarantee')}."
    elif audit.unchecked:
        held = len(audit.findings) - len(audit.unchecked)
        checked = (
            f"The audit found {held} of {len(audit.findings)} guarantees to hold, and could not "
            "check the others."
        )
    else:
        checked = f"All {len(audit.findings)} guarantees of the audit hold."
    if counts["bad"]:
        return "bad", f"{write_count(counts['bad'], 'thing')} must be mended first. {checked}"
    if counts["warn"]:
        return "warn", f"{write_count(counts['warn'], 'thing')} to look at. {checked}"
    return ("good" if audit else "warn"), f"Nothing stands out in the data. {checked}"


def _watch_audit(facts: Facts) -> Iterator[Alert]:
    if facts.audit is None:
        return
    for finding in facts.audit.findings:
        if finding.passed is False:
            yield Alert("bad", f"Audit: {finding.guarantee}: {finding.detail}", "audit")
        elif finding.passed is None:
            yield Alert("warn", f"Audit: {finding.guarantee}: {finding.detail}", "audit")


def _watch_forecasts(facts: Facts) -> Iterator[Alert]:
    if facts.card is None:
        return
    score = facts.card.score
    judged = {name: score.judge(name) for name in score.forecasts}
    judged |= {f"{name}, as a distribution,": score.judge_spread(name) for name in score.spreads}
    for name, verdict in judged.items():
        if verdict is None:
            yield Alert("warn", f"Forecast {name}: too few samples to test it", "forecasts")
        elif not verdict.is_better:
            yield Alert(
                "warn",
                f"Forecast {name} is {verdict.word} than {verdict.baseline!r}, the best baseline, "
                f"on {score.stage} (p = {verdict.test.p_value:.2g})",
                "forecasts",
            )


def _watch_windows(facts: Facts) -> Iterator[Alert]:
    for doubt in facts.doubts:
        yield Alert("warn", f"{doubt[:1].upper()}{doubt[1:]}", "windows")
    for each in facts.labels.stages:
        if each.stage != "train" and each.windows < FEW_SCORED:
            yield Alert(
                "warn",
                f"{each.stage} has {write_count(each.windows, 'window')}: what is measured on "
                "them is rough, and small differences are luck",
                "windows",
            )
    reasons = tell_reasons(facts.stages.settings)
    for stage in SHOWN:
        rows = [row for row in facts.counts if row["stage"] == stage]
        dropped = {name: sum(row[name] for row in rows) for name in REASONS}
        eligible = sum(row["eligible"] for row in rows)
        candidates = eligible + sum(dropped.values())
        lost = candidates - eligible
        if not lost:
            continue
        told = [
            f"{count:,} because {reasons[name]}" if count < lost else f"because {reasons[name]}"
            for name, count in sorted(dropped.items(), key=lambda each: -each[1])
            if count
        ]
        share = lost / candidates
        yield Alert(
            "warn" if share > MANY_LEFT_OUT else "note",
            f"{stage}: {lost:,} of {candidates:,} bars ({write_share(share)}) are no origin of a "
            f"window, {', '.join(told)}",
            "windows",
        )


def _watch_features(features: Sequence[Distribution]) -> Iterator[Alert]:
    missing, drifting = list[tuple[float, str]](), list[tuple[float, str]]()
    constant = list[str]()
    for each in features:
        empty = [stage for stage, share in each.missing.items() if share == 1]
        if empty:
            yield Alert("bad", f"{each.name} has no value at all in {', '.join(empty)}", "features")
            continue
        stage = max(each.missing, key=lambda name: each.missing[name], default=None)
        if stage is not None and each.missing[stage] > MANY_MISSING:
            share = each.missing[stage]
            missing.append((share, f"{each.name} ({write_share(share)} of {stage})"))
        drifted = max(each.drift, key=lambda name: each.drift[name], default=None)
        if drifted is not None and each.drift[drifted] >= LARGE_DRIFT:
            drift = each.drift[drifted]
            drifting.append((drift, f"{each.name} ({drift:.2f} in {drifted})"))
        if each.deviation.get("train") == 0:
            constant.append(each.name)
    if missing:
        yield Alert(
            "warn", f"Features with missing values: {list_first(_sort_worst(missing))}", "features"
        )
    if constant:
        yield Alert(
            "warn", f"Features that never change in train: {list_first(constant)}", "features"
        )
    if drifting:
        yield Alert(
            "warn",
            f"Features that drift away from train (stability index of {LARGE_DRIFT} or more): "
            f"{list_first(_sort_worst(drifting))}",
            "features",
        )


def list_own(facts: Facts) -> list[Distribution]:
    """The features that were asked for: without the flag for bars that have none."""
    flagged = facts.stages.settings.undefined == "flag"
    return [each for each in facts.features if not (flagged and each.name == FLAG)]


def _sort_worst(told: list[tuple[float, str]]) -> list[str]:
    """Words, those with the largest number first."""
    return [words for _, words in sorted(told, key=lambda each: -each[0])]


def _watch_targets(labels: Labels) -> Iterator[Alert]:
    train = labels.get("train")
    if train is None:
        return
    for each in labels.stages:
        if each.stage == "train":
            continue
        if labels.classes:
            absent = [
                name
                for name, ours, theirs in zip(
                    labels.classes, each.counts, train.counts, strict=True
                )
                if ours and not theirs
            ]
            if absent:
                yield Alert("bad", f"train has no target of class {', '.join(absent)}", "targets")
            far = float(np.abs(each.share - train.share).sum()) / 2
            if far > FAR_SHARES:
                yield Alert(
                    "warn",
                    f"The classes of {each.stage} are not those of train: {write_share(far)} of "
                    "the targets would have to be of another class to match",
                    "targets",
                )
        elif train.deviation > 0 and each.deviation > 0:
            ratio = each.deviation / train.deviation
            if not 1 / FAR_WIDTHS <= ratio <= FAR_WIDTHS:
                yield Alert(
                    "warn",
                    f"Targets of {each.stage} are {write_number(ratio, 2)} times as wide as those "
                    "of train (standard deviations)",
                    "targets",
                )


def _watch_holes(facts: Facts) -> Iterator[Alert]:
    table, holes = facts.stages.table, facts.holes
    told, worst = [], 0.0
    for stage in SHOWN:
        rows, out = _count_out(table, facts.stages.fold.spans(stage))
        if out:
            told.append(f"{write_count(out, 'bar')} of {stage} ({write_share(out / rows)})")
            worst = max(worst, out / rows)
    if told:
        grade: Grade = "warn" if worst > MANY_OUT else "note"
        yield Alert(grade, f"Outages: no price is known of {list_first(told)}", "prices")
    if facts.suspicious:
        absent = sum(each.absent for each in facts.suspicious)
        yield Alert(
            "warn",
            f"{write_count(absent, 'bar')} {'is' if absent == 1 else 'are'} absent though those "
            f"around are there, in {write_count(len(facts.suspicious), 'place')}: an outage, or an "
            f"answer that was cut; the first {facts.suspicious[0].describe()}",
            "holes",
        )
    if holes.absent:
        yield Alert(
            "note",
            f"{holes.absent:,} of {table.rows:,} bars ({write_share(holes.absent / table.rows)}) "
            f"are absent, in {write_count(holes.count, 'hole')}, the longest of "
            f"{write_length(holes.longest * int(table.interval))}",
            "holes",
        )


def _count_out(table: Table, spans: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Bars of some spans, and how many of them lie in outages."""
    runs = [(max(table.find_row(a), 0), min(table.find_row(b), table.rows)) for a, b in spans]
    own = np.array([each for each in runs if each[0] < each[1]], dtype=np.int64).reshape(-1, 2)
    rows = count_rows(own)
    return rows, rows - count_rows(subtract_runs(own, table.outages))


def grade_feature(feature: Distribution) -> tuple[Grade | Literal["good"], str]:
    """The grade of a feature, ``good`` among them, and all that is to be said, in a word each."""
    if any(share == 1 for share in feature.missing.values()):
        return "bad", "no value"
    found = {
        "missing": max(feature.missing.values(), default=0) > MANY_MISSING,
        "never changes": feature.deviation.get("train") == 0,
        "drifts": any(drift >= LARGE_DRIFT for drift in feature.drift.values()),
    }
    tags = ", ".join(name for name, is_so in found.items() if is_so)
    return ("warn", tags) if tags else ("good", "")
