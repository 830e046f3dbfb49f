"""The audit: whether what is promised about the future holds on the data and settings at hand.

``btc-datamodule audit`` and ``BTCDataModule.audit()``. Nothing is taken on trust. The way from
the candle file to the batches is gone again, by the same code, on candles in which every bar that
must not matter has other values: what may not depend on them must come out unchanged, whatever
happens inside (``twins``). What can be counted is counted again from the rows, by other code.

On a long history only the bars around the boundaries of the stages are looked at, with the spans
of the stages cut to fit; the report says how many.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from btc_datamodule.audit import guarantees
from btc_datamodule.audit.twins import Piece, Serve, choose_spans, open_piece
from btc_datamodule.errors import BTCDataError, ConfigError, LookAheadError
from btc_datamodule.evaluation.fitted import Fitted
from btc_datamodule.features.build import build
from btc_datamodule.settings import Settings
from btc_datamodule.stages import Stages

BARS = 200_000
"""Bars looked at: most of a fold of hourly bars of any length, or 140 days of minutes."""

Check = Callable[[Piece], Counter[str]]
"""Counts what it looked at in a piece; raises a ``BTCDataError`` where the guarantee breaks."""


class Finding(NamedTuple):
    """Whether one guarantee holds, and what was looked at or what breaks it."""

    guarantee: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Audit:
    """What an audit found; as text, the report.

    Attributes:
        scope: which data was looked at, and how much of it.
        findings: one for each guarantee.
    """

    scope: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether every guarantee holds."""
        return all(finding.passed for finding in self.findings)

    @property
    def failed(self) -> tuple[str, ...]:
        """The guarantees that do not hold."""
        return tuple(finding.guarantee for finding in self.findings if not finding.passed)

    def __str__(self) -> str:
        width = max(len(finding.guarantee) for finding in self.findings)
        lines = [f"audit of {self.scope}"]
        for guarantee, passed, detail in self.findings:
            lines.append(f"{'pass' if passed else 'FAIL'}  {guarantee:<{width}}   {detail}")
        held = len(self.findings) - len(self.failed)
        return "\n".join([*lines, f"{held} of {len(self.findings)} guarantees hold"])


def audit(
    settings: Settings, fitted: Fitted | None, serve: Serve, *, verified_key: str | None = None
) -> Audit:
    """Check the guarantees on the candles of some settings; see the module.

    Builds the feature file from the stored candles if it is not there.

    Args:
        settings: which windows there are.
        fitted: what training has fixed; None to fit it.
        serve: gives the loaders and hooks that a Trainer would use over some stages.
        verified_key: key of the feature file whose train rows are known to be those of ``fitted``.

    Raises:
        NotPreparedError: if there are no candles yet.
        ConfigError: if the settings leave a stage without windows.
    """
    settings.read_candle_header()
    with ExitStack() as stack:
        try:
            build(settings.candle_path, settings.recipe)
            used = Stages.open(settings, fitted, verified_key=verified_key)
            serve(used)
            pieces = list(_open_pieces(used, serve, stack))
        except LookAheadError as error:
            finding = Finding("no feature reads a later bar", False, str(error))
            return Audit(str(settings.candle_path), (finding,))
        bars = sum(len(piece.candles) for piece in pieces)
        scope = f"{settings.candle_path}: {bars:,} of {used.table.present:,} bars"
        if bars < used.table.present:
            scope += ", those around the boundaries of the stages"
        return Audit(scope, tuple(_check(pieces, *each) for each in _list_guarantees(used)))


def _open_pieces(used: Stages, serve: Serve, stack: ExitStack) -> Iterator[Piece]:
    """What to look at; of a long history, not where holes leave a stage without windows."""
    spans = choose_spans(used, BARS)
    found = 0
    for span in spans:
        try:
            yield stack.enter_context(open_piece(used, span, serve))
            found += 1
        except ConfigError:
            if span == spans[-1] and not found:
                raise


def _list_guarantees(used: Stages) -> Iterator[tuple[str, Check, str]]:
    """The guarantees: the name of each, its check, and what to say of what was counted."""
    settings, shape = used.settings, used.settings.shape
    filled = settings.max_fill + 1  # a filled bar repeats one before it
    inputs = (1 - shape.lookback - used.table.warm_up - filled, 1)
    targets = (1 + shape.gap - shape.reference_bars - filled, shape.reach)
    blind = "{windows:,} windows, {rows:,} rows of features and the statistics unchanged {how}"
    alone = "{samples:,} samples unchanged with all bars but their own corrupted"
    yield (
        "train is blind to val and test",
        guarantees.check_train_is_blind,
        f"{blind} with {{bars:,}} bars of val, test and after corrupted",
    )
    if used.fold.val:
        yield (
            "val is blind to test",
            guarantees.check_val_is_blind,
            f"{blind} with {{bars:,}} bars of test and after corrupted",
        )
    yield (
        "inputs end at the origin",
        partial(guarantees.check_fields_are_own, False, inputs),
        f"x and observed of {alone}",
    )
    yield (
        "targets are made of their own bars",
        partial(guarantees.check_fields_are_own, True, targets),
        f"y of {alone}",
    )
    for feature in settings.features:
        bars = "last bar" if feature.lookback == 1 else f"last {feature.lookback} bars"
        yield (
            f"{feature.name} reads no later bar",
            partial(guarantees.check_feature, feature),
            f"{{rows:,}} rows unchanged with all bars but their {bars} corrupted",
        )
    yield (
        "stages share no target bar",
        guarantees.check_stages_are_apart,
        "none of {targets:,} val and test target bars is a target, input or warm-up bar of train",
    )
    yield (
        "windows are those allowed",
        guarantees.check_windows,
        "{windows:,} windows, no other ones; {scored:,} of {bars:,} val and test bars are targets, "
        "and the others cannot be (`describe()` says why)",
    )
    yield (
        "statistics are those of train",
        guarantees.check_statistics,
        "{rows:,} train rows and {targets:,} scaled train targets give the same in plain numpy",
    )
    yield (
        "the table is that of the candles",
        guarantees.check_table,
        "{rows:,} rows of features, mask and bars come out the same when built again",
    )


def _check(pieces: Iterable[Piece], guarantee: str, check: Check, words: str) -> Finding:
    total: Counter[str] = Counter()
    try:
        for piece in pieces:
            total.update(check(piece))
    except BTCDataError as error:
        return Finding(guarantee, False, str(error))
    how = "up to rounding" if total["rounded"] else "bit for bit"
    return Finding(guarantee, True, words.format_map(defaultdict(int, total, how=how)))
