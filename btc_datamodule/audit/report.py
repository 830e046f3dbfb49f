"""The audit: whether what is promised about the future holds on the data and settings at hand.

``btc-datamodule audit`` and ``BTCDataModule.audit()``. Nothing is taken on trust. The way from
the files to the batches is gone again, by the same code, on candles and series beside them in which
every bar and record that must not matter is another, or is not there: what may not depend on them
must come out unchanged, whatever happens inside (``blindness``). What can be counted is counted
again from the rows, by other code (``recount``). Every row of the feature file is made again and
tested (``rows``), some of them of nothing but what was known when they closed (``known``), features
of the user's own are computed in a process that has seen nothing (``fresh``), prices beside the
candles are compared with theirs (``ahead``), and each source is asked again for less (``asking``).

Windows are looked at on all of a history of up to ``BARS``; of a longer one around the boundaries
of the stages, with the spans of the stages cut to fit. The report says how many.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from btc_datamodule.audit import blindness, recount, rows
from btc_datamodule.audit.ahead import check_nothing_runs_ahead, list_priced
from btc_datamodule.audit.asking import check_source, list_asked
from btc_datamodule.audit.compare import UncheckedError
from btc_datamodule.audit.fresh import check_features_are_functions
from btc_datamodule.audit.handing import Serve
from btc_datamodule.audit.known import check_rows_are_known
from btc_datamodule.audit.series import list_files
from btc_datamodule.audit.twins import Extent, Piece, choose_spans, is_exact, open_piece
from btc_datamodule.errors import BTCDataError, ConfigError, LookAheadError
from btc_datamodule.escaping import escape
from btc_datamodule.evaluation.fitted import Fitted
from btc_datamodule.features.build import build
from btc_datamodule.overview.identity import identify, identify_settings
from btc_datamodule.progress import show_step
from btc_datamodule.settings import Settings
from btc_datamodule.stages import Stages

BARS = 200_000
"""Bars looked at: most of a fold of hourly bars of any length, or 140 days of minutes."""

OfPiece = Callable[[Piece], Counter[str]]
OfAll = Callable[[Stages], Counter[str]]
"""Counts what it looked at; raises a ``BTCDataError`` where the guarantee breaks."""


class Guarantee(NamedTuple):
    """A guarantee: its name, what to say of what was counted, and its check.

    The check looks at each piece, or at the stages under audit as a whole; or at both.
    """

    name: str
    words: str
    of_piece: OfPiece | None = None
    of_all: OfAll | None = None


class Finding(NamedTuple):
    """Whether one guarantee holds, and what was looked at or what breaks it.

    ``passed`` is None where it could not be checked; the detail says why.
    """

    guarantee: str
    passed: bool | None
    detail: str


@dataclass(frozen=True, repr=False)
class Audit:
    """What an audit found; as text, the report.

    Attributes:
        scope: which data was looked at, and how much of it.
        findings: one for each guarantee.
        data: which data these are, see ``overview.identity``; nothing where that is not known.
    """

    scope: str
    findings: tuple[Finding, ...]
    data: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def passed(self) -> bool:
        """Whether no guarantee was found to be broken."""
        return not self.failed

    @property
    def failed(self) -> tuple[str, ...]:
        """The guarantees that do not hold."""
        return tuple(each.guarantee for each in self.findings if each.passed is False)

    @property
    def unchecked(self) -> tuple[str, ...]:
        """The guarantees that could not be checked."""
        return tuple(each.guarantee for each in self.findings if each.passed is None)

    def __str__(self) -> str:
        width = max(len(finding.guarantee) for finding in self.findings)
        lines = [f"audit of {escape(self.scope)}"]
        words = {True: "pass", False: "FAIL", None: "????"}
        for guarantee, passed, detail in self.findings:
            lines.append(escape(f"{words[passed]}  {guarantee:<{width}}   {detail}"))
        held = len(self.findings) - len(self.failed) - len(self.unchecked)
        last = f"{held} of {len(self.findings)} guarantees hold"
        if self.unchecked:
            last += f", {len(self.unchecked)} could not be checked"
        return "\n".join([*lines, last])

    __repr__ = __str__


def audit(
    settings: Settings,
    fitted: Fitted | None,
    serve: Serve,
    *,
    ask_source: bool = True,
) -> Audit:
    """Check the guarantees on the candles of some settings; see the module.

    Builds the feature file from the stored candles if it is not there.

    Args:
        settings: which windows there are.
        fitted: what training has fixed; None to fit it.
        serve: gives the loaders and hooks that a Trainer would use over some stages.
        ask_source: whether to ask the source for some bars again.

    Raises:
        NotPreparedError: if there are no candles yet.
        ConfigError: if the settings leave a stage without windows.
    """
    key = settings.recipe.compute_key(settings.read_candle_header())
    with ExitStack() as stack:
        try:
            build(settings.candle_path, settings.recipe, recheck=False)
            used = Stages.open(settings, fitted, verified_key=key)  # it is checked in detail below
            used.require("train")
            used.check(serve(used).batch_size)
            pieces = list(_open_pieces(used, serve, stack))
        except LookAheadError as error:
            finding = Finding("no feature reads a later bar", False, str(error))
            known = identify_settings(settings, key)
            return Audit(str(settings.candle_path), (finding,), known)
        bars = sum(len(piece.candles) for piece in pieces)
        scope = f"{settings.candle_path}: {used.table.present:,} bars"
        if bars < used.table.present:
            scope += f"; windows on {bars:,} of them, around the boundaries of the stages"
        guarantees = list(_list_guarantees(used, ask_source=ask_source))
        findings = tuple(_check(pieces, used, each) for each in _show(guarantees))
        return Audit(scope, findings, identify(used))


def _open_pieces(used: Stages, serve: Serve, stack: ExitStack) -> Iterator[Piece]:
    """What to look at; of a long history, not where holes leave a stage without windows."""
    spans = choose_spans(used, BARS)
    found = 0
    with show_step("audit: opening", len(spans)) as step:
        for span in spans:
            try:
                yield stack.enter_context(open_piece(used, span, serve))
                found += 1
            except ConfigError:
                if span == spans[-1] and not found:
                    raise
            step.advance(1)


def _show(guarantees: Sequence[Guarantee]) -> Iterator[Guarantee]:
    """Pass the guarantees on, and show how many are checked and which is."""
    with show_step("audit", len(guarantees)) as step:
        for guarantee in guarantees:
            step.advance(0, guarantee.name)
            yield guarantee
            step.advance(1)


def _list_guarantees(used: Stages, *, ask_source: bool) -> Iterator[Guarantee]:
    """What is promised of some stages."""
    settings, shape = used.settings, used.settings.shape
    filled = settings.max_fill  # a filled bar repeats one before it
    inputs = Extent(1 - shape.lookback - used.table.warm_up - filled, 1, beside=True)
    targets = Extent(1 + shape.gap - shape.reference_bars - filled, shape.reach, beside=False)
    blind = "{windows:,} windows, {rows:,} rows of features and the statistics unchanged {how}"
    beside = len(list_files(settings))
    others = "changed, removed or added" + f", and of {beside} series" * bool(beside)
    alone = f"{{samples:,}} samples unchanged with all bars but their own {others}"
    yield Guarantee(
        "train is blind to val and test",
        f"{blind} with {{bars:,}} bars of val, test and after {others}",
        blindness.check_train_is_blind,
    )
    if used.fold.val:
        yield Guarantee(
            "val is blind to test",
            f"{blind} with {{bars:,}} bars of test and after {others}",
            blindness.check_val_is_blind,
        )
    yield Guarantee(
        "inputs end at the origin",
        f"x and observed of {alone}",
        partial(blindness.check_fields_are_own, False, inputs),
    )
    yield Guarantee(
        "targets are made of their own bars",
        f"y of {alone}",
        partial(blindness.check_fields_are_own, True, targets),
    )
    yield Guarantee(
        "targets are not known at the origin",
        "of {numbers:,} numbers of y {fixed:,} are always the same in {samples:,} samples, and the "
        "others take other values with other bars after the origin",
        partial(blindness.check_targets_are_unknown, inputs),
    )
    for feature in settings.features:
        row, of = ("row", f" of {feature.series}") if feature.series else ("bar", "")
        last = row if feature.lookback == 1 else f"{feature.lookback} {row}s"
        yield Guarantee(
            f"{feature.name} reads no later bar",
            f"{{tested:,}} of {{rows:,}} rows ({{share}}) unchanged with all {row}s{of} but their "
            f"last {last} changed, removed or added",
            of_all=partial(rows.check_feature, feature),
        )
    if not all(map(is_exact, settings.features)):
        yield Guarantee(
            "features are functions of their bars",
            "{rows:,} rows the same where no later bar was seen ({elsewhere} features of your own "
            "in a fresh process, {here} in this one), and no file opened",
            of_all=check_features_are_functions,
        )
    yield Guarantee(
        "stages share no target bar",
        "none of {targets:,} val and test target bars is a target, input or warm-up bar of train",
        recount.check_stages_are_apart,
    )
    yield Guarantee(
        "windows are those allowed",
        "{windows:,} windows, no other ones; of {bars:,} val and test bars {scored:,} are scored, "
        "each once unless `eval_stride` is less than the horizon (`describe()` counts the others)",
        recount.check_windows,
    )
    yield Guarantee(
        "statistics are those of train",
        "{rows:,} train rows and {targets:,} scaled train targets give the same in plain numpy",
        lambda piece: recount.check_statistics(piece.clean.stages),
        recount.check_statistics,
    )
    yield Guarantee(
        "the table is that of the candles",
        "{rows:,} rows of features, mask and bars come out the same when built again",
        of_all=rows.check_table,
    )
    if settings.named_covariates:
        yield Guarantee(
            "covariates enter when they are known",
            "{rows:,} rows the same, made of nothing but what was known of the candles and "
            "{series:,} series when they closed",
            of_all=check_rows_are_known,
        )
    if list_priced(used):
        yield Guarantee(
            "no covariate runs ahead",
            "of {series:,} series with prices the returns of {alike:,} go with those of the "
            "candles at the same time, and none with later ones",
            of_all=check_nothing_runs_ahead,
        )
    for asked in list_asked(used) if ask_source else ():
        of = f" of {asked.name}" if asked.name else ""
        yield Guarantee(
            f"the source{of} tells the same when asked for less",
            f"{{rows:,}} stored {asked.row}s come again, asked for up to each of {{ends:,}} times "
            "alone",
            of_all=partial(check_source, asked),
        )


def _check(pieces: Iterable[Piece], used: Stages, guarantee: Guarantee) -> Finding:
    total: Counter[str] = Counter()
    try:
        if guarantee.of_piece is not None:
            for piece in pieces:
                total.update(guarantee.of_piece(piece))
        if guarantee.of_all is not None:
            total = guarantee.of_all(used)
    except (UncheckedError, ConfigError) as error:  # a feature fails where bars are not known
        return Finding(guarantee.name, None, f"could not be checked: {error}")
    except BTCDataError as error:
        return Finding(guarantee.name, False, str(error))
    said = defaultdict[str, object](int, total)
    said["how"] = "up to rounding" if total["rounded"] else "bit for bit"
    said["share"] = f"{total['tested'] / max(1, total['rows']):.0%}"
    return Finding(guarantee.name, True, guarantee.words.format_map(said))
