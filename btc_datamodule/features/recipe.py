"""``Recipe``: everything that the content of a feature file depends on, beside the candles."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from btc_datamodule.candles.timeline import Span
from btc_datamodule.features.causality import check_lookback
from btc_datamodule.features.clocks import StoredBeside
from btc_datamodule.features.feature import Feature, count_warm_up, is_own
from btc_datamodule.features.fingerprint import hash_source
from btc_datamodule.features.layout import FLAG, SCHEMA, SEGMENT_DTYPES, MaskOf
from btc_datamodule.features.table import Table
from btc_datamodule.store.series_file import Header


@dataclass(frozen=True)
class Recipe:
    """Everything that the content of a feature file depends on, beside the candles.

    Attributes:
        features: the columns of ``x``.
        max_fill: bars of each hole, from its first, that are taken as time without trades.
        span: candles outside it (epoch seconds) are left out.
        flag: whether rows in which a feature is undefined are kept, and flagged by a column of
            their own (``undefined``).
        mask: whether bars are observed as a whole, or each feature by itself.
        beside: the series that features name, as they are stored.
    """

    features: tuple[Feature, ...]
    max_fill: int
    span: Span
    flag: bool = False
    mask: MaskOf = "bar"
    beside: tuple[StoredBeside, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of ``x``."""
        return (*(feature.name for feature in self.features), *[FLAG] * self.flag)

    @property
    def warm_up(self) -> int:
        """Bars before the first input bar that features of the candles need."""
        return count_warm_up([feature for feature in self.features if not feature.series])

    def read_digests(self) -> list[str]:
        """The digests of the files of the series beside the candles, as they are now."""
        return [each.read_digest() for each in self.beside]

    def compute_key(self, header: Header, digests: Sequence[str] | None = None) -> str:
        """Name of the content that this recipe makes of the candle file with ``header``.

        Args:
            header: of the candle file.
            digests: of the files of the series beside it; None to read them.
        """
        digests = self.read_digests() if digests is None else digests
        parts = [
            SCHEMA,
            SEGMENT_DTYPES,
            header.digest,
            header.interval,
            self.max_fill,
            self.flag,
            self.mask,
            max(self.span[0], header.span[0]),
            min(self.span[1], header.span[1]),
            *(feature.definition() for feature in self.features),
            *(
                [*each.definition(), digest]
                for each, digest in zip(self.beside, digests, strict=True)
            ),
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def list_identities(self, *, beside: bool | None = None) -> dict[str, str]:
        """What tells features apart that need not be checked for look-ahead twice.

        These are all but functions of the user's own. Of the same candles, and files of other
        series, such a feature is found to look ahead or not.

        Args:
            beside: only features that see other series, or only those that don't; None for all.

        Returns:
            The name of each, by a SHA-256 of what it computes, of which series, and of the check.
        """
        check, found = hash_source(check_lookback).hex(), {}
        for feature in self.features:
            series = {feature.series, *feature.beside} - {""}
            if not is_own(feature) and beside in (None, bool(series)):
                seen = [each.definition() for each in self.beside if each.beside.name in series]
                parts = json.dumps([check, feature.definition(), *seen])
                found[hashlib.sha256(parts.encode()).hexdigest()] = feature.name
        return found

    def list_files(self, folder: Path, digests: Sequence[str]) -> list[list[str]]:
        """The files of the series beside the candles, relative to a folder, and their digests."""
        paths = [os.path.relpath(each.path, folder) for each in self.beside]
        return [list(each) for each in zip(paths, digests, strict=True)]

    def says(self, table: Table) -> bool:
        """Whether a feature file has the columns of this recipe, made in its way."""
        due = (self.columns, self.flag, self.mask, self.max_fill, self.warm_up)
        has = (table.features, table.flag, table.mask, table.max_fill, table.warm_up)
        return has == due

    def describes(self, table: Table, header: Header) -> bool:
        """Whether a feature file says of itself what this recipe makes of the candles."""
        of_these = (table.interval, table.candles) == (header.interval, header.digest)
        (first, end), (start, stop), (begin, last) = table.span, self.span, header.span
        begins = first == begin if start <= begin else start <= first
        ends = end == last if last <= stop else end < stop + header.interval
        return self.says(table) and of_these and begins and ends
