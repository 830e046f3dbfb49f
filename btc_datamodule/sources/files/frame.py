"""``CandleFrame``: candles that lie in a frame of polars or pandas already.

Reads a frame as ``CandleFile`` reads a file of the same rows, by the same code: names, times,
volumes, what is left out and what is an error. It is stored by its content, so that another frame
is another series, and one that was edited is never taken for what it was.

    CandleFrame(frame)
    CandleFrame(frame, columns={"Vol": "quote_volume"}, timezone="Europe/Berlin")
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from btc_datamodule.candles.timeline import Span
from btc_datamodule.public import public
from btc_datamodule.sources.base import Block, Source
from btc_datamodule.sources.files.choices import (
    Columns,
    check_choices,
    list_later,
    make_reading,
    parse_columns,
)
from btc_datamodule.sources.files.frame_tables import HeldFrame
from btc_datamodule.sources.files.joining import join_bars
from btc_datamodule.sources.files.values import read_bars

RULES = 1
"""Of these modules; raised when the same frame comes to mean something else, to read it again."""

LABEL = "frame"
"""What errors and notes call it."""


@public
@dataclass(frozen=True)
class CandleFrame(Source):
    """Candles from a frame of polars or pandas, in Python alone: YAML can name none.

    Attributes:
        frame: a DataFrame or LazyFrame of polars, or a DataFrame of pandas, whose times may be its
            index. It is kept as it is now: a later change of it changes nothing here.
        columns: see ``CandleFile``.
        product: name of the folder for this series; by default it has the digest of content and
            settings in it. Under a name of its own another frame takes the place of what is stored.
        symbol: which market, where the frame holds several, such as "BTC/USD".
        time_format: how times are written, where they are texts, as of ``strptime``.
        timezone: of times that name none, such as "Europe/Berlin"; UTC by default.
        stamp: whether a time is the open or the close of its bar.
        decimal: what parts decimals, where numbers are texts.
        drop_invalid: leave out bars that are no candles (high < low, a negative price), with a
            note that counts them, in place of an error.

    Raises:
        ConfigError: if an argument is wrong.
    """

    frame: Any
    columns: Columns | None = None
    product: str | None = None
    symbol: str | None = None
    time_format: str | None = None
    timezone: str | None = None
    stamp: Literal["open", "close"] | None = None
    decimal: Literal[".", ","] | None = None
    drop_invalid: bool = False

    name: ClassVar[str] = "frame"

    def __post_init__(self) -> None:
        object.__setattr__(self, "frame", HeldFrame.of(self.frame))
        check_choices(self)

    @property
    def series(self) -> str:
        """``product``, or eight digits of ``revision``."""
        return self.product or f"{LABEL}-{self.revision[:8]}"

    @property
    def revision(self) -> str:
        """SHA-256 over the content of the frame and the settings that it is read with."""
        settings = [RULES, self.frame.digest, parse_columns(self.columns), list_later(self)]
        return hashlib.sha256(json.dumps(settings).encode()).hexdigest()

    def blocks(self, interval: int, span: Span) -> Iterator[Block]:
        """Yield one block with every closed bar of the frame; its span is theirs.

        Shorter bars than asked for are joined to such.

        Args:
            interval: seconds.
            span: bars that open at or after its end are not closed yet, and left out.

        Raises:
            SourceError: if the columns cannot be told.
            CandleError: naming the first row that is no candle; the first row of all is 1.
        """
        bars = read_bars(self.frame.table, make_reading(self), interval, span[1], LABEL)
        candles, notes = join_bars([bars], interval, LABEL, drop_invalid=self.drop_invalid)
        yield Block(candles.span, candles, LABEL, notes, f"sha256:{self.frame.digest}")
