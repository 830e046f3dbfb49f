"""``Settings``: the arguments that decide the windows, checked once, and what follows from them.

A frozen value object on which everything below the datamodule works: the datamodule makes one of
its arguments, the audit makes others of that by ``dataclasses.replace``. What a user or Lightning's
Tuner may change later (batch size, workers, order of train) is not among them.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import date
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args

from btc_datamodule.candles.timeline import (
    Interval,
    format_instant,
    format_interval,
    parse_instant,
    parse_interval,
)
from btc_datamodule.checks import check_choice, check_whole_number, name_type
from btc_datamodule.covariates import Covariate, explain_beside, parse_covariates
from btc_datamodule.errors import ConfigError
from btc_datamodule.evaluation.origins import SampleShape
from btc_datamodule.evaluation.scaling import SCALINGS, Scaling
from btc_datamodule.evaluation.splits import END_OF_TIME, FractionSplit, Split
from btc_datamodule.evaluation.targets import LogReturn, Target
from btc_datamodule.features.builtin import resolve
from btc_datamodule.features.feature import Feature
from btc_datamodule.features.layout import BAR_COLUMNS, FLAG, MASKS, MaskOf
from btc_datamodule.features.recipe import Recipe
from btc_datamodule.features.undefined import Undefined
from btc_datamodule.plain import describe, repr_as_before
from btc_datamodule.sources.answering import check_declaration
from btc_datamodule.sources.base import Source
from btc_datamodule.sources.resampling import choose_base
from btc_datamodule.sources.simulator import Simulator
from btc_datamodule.store.candle_file import check_series, read_header
from btc_datamodule.store.locating import (
    check_there,
    find_source,
    is_there,
    locate_candles,
    tell_ends,
)
from btc_datamodule.store.series_file import Header

Context = Literal["allow", "strict"]

KINDS: dict[str, tuple[type, Callable[[], Any]]] = {
    "source": (Source, Simulator),
    "target": (Target, LogReturn),
    "split": (Split, FractionSplit),
}
"""The arguments that are objects: their class, and what stands for None."""


@dataclass(frozen=True, repr=False)
class Settings:
    """The arguments of a ``BTCDataModule`` that decide which windows there are.

    Attributes:
        source: where candles come from.
        interval: length of a bar, seconds, and its grid.
        start: first instant, epoch seconds; None for as early as the source has.
        end: instant past the last one; None for up to the latest closed bar.
        features: columns of ``x``.
        target: what ``y`` is.
        shape: extent of a sample in bars: lookback, horizon, gap.
        split: how time is divided.
        purge: bars left out at the end of train and of val.
        embargo: bars after each val or test span that no later train sample may read.
        context: whether inputs of val and test may reach back over the start of their span.
        stride: bars from one train sample to the next.
        eval_stride: bars from one val or test sample to the next.
        scaling: method for ``x``.
        target_scaling: method for ``y``.
        max_fill: bars of each hole, from its first, that are filled.
        min_observed: least share of observed input bars.
        undefined: what becomes of bars that are known and that a feature has no value for.
        mask: whether bars are observed as a whole, or each feature by itself.
        data_dir: folder of the HDF5 files, absolute: a process may change its folder later.
        covariates: the series beside the candles.

    Raises:
        ConfigError: for the first argument that is wrong on the face of it.
    """

    source: Source
    interval: Interval
    start: int | None
    end: int | None
    features: tuple[Feature, ...]
    target: Target
    shape: SampleShape
    split: Split
    purge: int
    embargo: int
    context: Context
    stride: int
    eval_stride: int
    scaling: Scaling
    target_scaling: Scaling
    max_fill: int
    min_observed: float
    undefined: Undefined
    mask: MaskOf
    data_dir: Path
    covariates: tuple[Covariate, ...] = ()

    def __post_init__(self) -> None:
        shape = self.shape
        for name, value, least in (
            ("lookback", shape.lookback, 1),
            ("horizon", shape.horizon, 1),
            ("stride", self.stride, 1),
            ("eval_stride", self.eval_stride, 1),
            ("gap", shape.gap, 0),
            ("purge", self.purge, 0),
            ("embargo", self.embargo, 0),
        ):
            check_whole_number(name, value, least)
        check_choice("context", self.context, ("allow", "strict"))
        check_choice("scaling", self.scaling, SCALINGS)
        check_choice("target_scaling", self.target_scaling, ("train", "robust", "none"))
        check_choice("undefined", self.undefined, get_args(Undefined))
        check_choice("mask", self.mask, MASKS)
        if self.undefined == "flag" and FLAG in [feature.name for feature in self.features]:
            raise ConfigError(
                f"a feature is named {FLAG!r}, as the column that `undefined: flag` adds is: give "
                "it another name"
            )
        share = self.min_observed
        if not isinstance(share, int | float) or not 0 < share <= 1:
            raise ConfigError(f"min_observed is {share!r}: it must be a number in (0, 1]")
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ConfigError(
                f"the range is empty: start {format_instant(self.start)} is not before "
                f"end {format_instant(self.end)}"
            )
        self._check_target()

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> "Settings":
        """The settings of the arguments of a ``BTCDataModule``, by name, as a user writes them.

        Raises:
            ConfigError: for the first argument that is wrong on the face of it.
            SourceError: if the source has no bars of this interval, nor any to join.
        """
        objects = {name: _choose_object(name, given[name]) for name in KINDS}
        check_declaration(objects["source"])
        interval = parse_interval(given["interval"], given["offset"])
        check_whole_number("max_fill", given["max_fill"], 0)
        covariates = parse_covariates(
            given["covariates"], given["max_age"], interval=interval, max_fill=given["max_fill"]
        )
        beside = {covariate.name: covariate.beside for covariate in covariates}
        features = resolve(given["features"], beside, interval)
        choose_base(objects["source"], interval, objects["source"].intervals)
        start, end = (
            None if given[name] is None else parse_instant(given[name], name)
            for name in ("start", "end")
        )
        if not isinstance(given["data_dir"], str | Path) or "\0" in str(given["data_dir"]):
            raise ConfigError(f"data_dir is {given['data_dir']!r}: name a folder")
        horizon, eval_stride = given["horizon"], given["eval_stride"]
        alike = ("purge", "embargo", "context", "stride", "scaling", "target_scaling", "mask")
        return cls(
            **objects,
            interval=interval,
            start=start,
            end=end,
            features=features,
            shape=SampleShape(
                given["lookback"], horizon, given["gap"], objects["target"].reference_bars
            ),
            eval_stride=horizon if eval_stride is None else eval_stride,
            max_fill=given["max_fill"],
            min_observed=given["min_observed"],
            undefined=given["undefined"],
            data_dir=Path(given["data_dir"]).expanduser().absolute(),
            covariates=covariates,
            **{name: given[name] for name in alike},
        )

    def __repr__(self) -> str:
        texts = {
            "interval": format_interval(self.interval),
            "start": self.start if self.start is None else format_instant(self.start),
            "end": self.end if self.end is None else format_instant(self.end),
            "features": [feature.text for feature in self.features],
            "data_dir": str(self.data_dir),
            "covariates": [covariate.name for covariate in self.covariates],
        }
        values = {field.name: getattr(self, field.name) for field in fields(self)} | texts
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in values.items())})"

    @property
    def offset(self) -> int:
        """Seconds past the multiples of the interval, since the epoch, at which bars open."""
        return self.interval.offset

    @property
    def gap(self) -> int:
        """Bars between the last input bar and the first target bar."""
        return self.shape.gap

    @property
    def n_features(self) -> int:
        """F, the last axis of ``Batch.x``."""
        return len(self.features) + (self.undefined == "flag")

    @property
    def target_shape(self) -> tuple[int, ...]:
        """Shape of one sample's target."""
        return self.target.shape(self.shape.horizon)

    @property
    def n_classes(self) -> int | None:
        """Classes of a target of classes, None of any other."""
        return self.target.n_classes

    @property
    def stored_source(self) -> Source:
        """The source, under the name by which its candles are stored.

        That may be another than its own where a file was renamed or a folder moved.
        """
        known: Source | None = vars(self).get("_recognised")
        if known is None or is_there(self._locate(self.source)):
            return self.recognise_source()
        return known

    def recognise_source(self) -> Source:
        """``stored_source``, looked for anew; files may be read for it if its own name has none.

        Raises:
            ConfigError: if several stored series may be its own.
        """
        found = find_source(self.data_dir, self.source, format_interval(self.interval))
        object.__setattr__(self, "_recognised", None if found is self.source else found)
        return found

    @property
    def candle_path(self) -> Path:
        """The candle file."""
        return self._locate(self.stored_source)

    def _locate(self, source: Source) -> Path:
        return locate_candles(self.data_dir, source, format_interval(self.interval))

    @cached_property
    def named_covariates(self) -> tuple[Covariate, ...]:
        """The covariates that features name."""
        named = {name for feature in self.features for name in (feature.series, *feature.beside)}
        return tuple(covariate for covariate in self.covariates if covariate.name in named)

    @property
    def max_age(self) -> dict[str, int | None]:
        """Seconds after which a value of each covariate is too old; None for never."""
        return {covariate.name: covariate.beside.max_age for covariate in self.covariates}

    @property
    def recipe(self) -> Recipe:
        """What the feature file is made by."""
        end = END_OF_TIME if self.end is None else self.end
        span = (self.start or 0, end)
        beside = tuple(
            each.to_stored(self.data_dir, self.candle_path) for each in self.named_covariates
        )
        flag = self.undefined == "flag"
        return Recipe(self.features, self.max_fill, span, flag, self.mask, beside)

    def read_candle_header(self) -> Header:
        """What the candle file says of itself.

        Raises:
            NotPreparedError: if there is no candle file.
            StoreError: if it is damaged, or holds another series than that of ``source``.
        """
        path = self.candle_path
        check_there(path)
        header = read_header(path)
        check_series(path, header, self.source.name, self.stored_source.series, self.interval)
        return header

    def read_covariate_header(self, covariate: Covariate) -> Header:
        """What the file of a covariate says of itself; see ``Covariate.read_header``."""
        return covariate.read_header(self.data_dir, self.candle_path)

    def tell_stored(self, feature: Feature) -> str:
        """The rest of a sentence on a feature of covariates without a value: what is stored."""
        named = [e for e in self.covariates if e.name in (feature.series, *feature.beside)]
        headers = {each.name: self.read_covariate_header(each) for each in named}
        spans = [
            f"{name!r}, stored from {' to '.join(tell_ends(header))}"
            if header.rows
            else f"{name!r}, of which nothing is stored"
            for name, header in headers.items()
        ]
        return (
            f"it is made of {' and '.join(spans)}: widen `start` and `end`, raise `max_age`, mend "
            "it, or take it out of `features`"
        )

    @cached_property
    def comparable(self) -> dict[str, Any]:
        """What a checkpoint and the data that it meets must share, in plain values.

        The source is not among them: the digest of the train rows says whether it has the same
        candles, wherever its files lie.
        """
        return {
            "interval": format_interval(self.interval),
            "features": [feature.text for feature in self.features],
            "target": describe(self.target),
            "lookback": self.shape.lookback,
            "horizon": self.shape.horizon,
            "gap": self.shape.gap,
            "split": describe(self.split),
            "purge": self.purge,
            "embargo": self.embargo,
            "scaling": self.scaling,
            "target_scaling": self.target_scaling,
            "undefined": "drop" if self.undefined == "fail" else self.undefined,
            "covariates": [str(covariate) for covariate in self.named_covariates],
            "mask": self.mask,
        }

    def check_same(self, kept: Mapping[str, Any], where: str) -> None:
        """Raise ``ConfigError`` unless a checkpoint was trained with these settings.

        Args:
            kept: ``comparable`` of the settings that it was trained with.
            where: what the error calls the checkpoint.
        """
        changed = [
            _tell_change(name, was, self.comparable.get(name))
            for name, was in kept.items()
            if not self._is_same(name, was)
        ]
        if changed:
            raise ConfigError(
                f"{where} was trained with other data settings: {'; '.join(changed)}. Give those, "
                "or begin anew without it"
            )

    def _is_same(self, name: str, kept: Any) -> bool:
        """Whether a setting is that of a checkpoint.

        Version 0.1 kept the ``repr`` of target and split, and dates in them as such. Where that
        has only an address in it, the class is all that can be compared.
        """
        if kept == self.comparable.get(name):
            return True
        if name not in ("target", "split"):
            return False
        thing, kept = getattr(self, name), _DATE.sub(_write_date, str(kept))
        addressed = re.fullmatch(r"<(?:.*\.)?(\w+) object at 0x\w+>", str(kept))
        return kept in (repr_as_before(thing), describe(thing)) or (
            addressed is not None and addressed[1] == type(thing).__name__
        )

    def _check_target(self) -> None:
        classes = self.target.n_classes
        if classes is not None:
            check_whole_number(f"n_classes of target {self.target!r}", classes, 2)
        elif not self.target_shape:
            raise ConfigError(
                f"target {self.target!r} must have a shape of one axis or more, unless it says its "
                "`n_classes`"
            )
        bars, unknown = self.target.reference_bars, set(self.target.columns) - set(BAR_COLUMNS)
        if not isinstance(bars, int) or bars < 0 or unknown:
            raise ConfigError(
                f"target {self.target!r}: reference_bars is {bars!r} and must be a whole "
                f"number from 0 up, columns are {list(self.target.columns)} and must be of "
                f"{', '.join(BAR_COLUMNS)}"
            )


def _tell_change(name: str, was: Any, now: Any) -> str:
    """What a setting was and is; of covariates those that differ."""
    if name == "covariates":
        was, now = [each for each in was if each not in now], [e for e in now if e not in was]
    return f"{name} was {was!r}, is {now!r}"


_DATE = re.compile(r"datetime\.date\((\d+), (\d+), (\d+)\)")


def _write_date(match: re.Match[str]) -> str:
    return repr(date(*map(int, match.groups())).isoformat())


def _choose_object(name: str, given: Any) -> Any:
    """The object given for an argument of ``KINDS``, or the one that stands for None."""
    kind, default = KINDS[name]
    thing = default() if given is None else given
    if isinstance(thing, kind):
        return thing
    if isinstance(thing, type) and issubclass(thing, kind):
        raise ConfigError(f"{name} is the class {thing.__name__}: give an object, with () after it")
    plain = isinstance(thing, str | int | float | PathLike)
    what = repr(thing) if plain else f"of type {name_type(thing)}"
    if name == "source" and isinstance(thing, str | PathLike):
        right = f"for a file write CandleFile({str(thing)!r})"
    elif name == "source" and (beside := explain_beside(thing)):
        raise ConfigError(f"source is {beside}")
    elif name == "source" and hasattr(thing, "columns"):
        right = "for a frame of polars or pandas write CandleFrame(frame)"
    else:
        right = f"it must be an object such as {default.__name__}()"
    raise ConfigError(f"{name} is {what}: {right}")
