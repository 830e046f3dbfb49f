"""``Resampled``: a series in longer bars, as a covariate."""

from dataclasses import dataclass

from btc_datamodule.candles.timeline import Interval, parse_interval
from btc_datamodule.errors import ConfigError
from btc_datamodule.public import public
from btc_datamodule.sources.base import Source, check_path_part


@public
@dataclass(frozen=True)
class Resampled:
    """A series in bars of another length: closed ones only.

    Attributes:
        interval: length of a bar, such as 1h.
        of: whose bars: those of the main candles (none) or of another covariate, by its name,
            which are joined; or a Source, which is asked for bars of this length itself. In YAML
            the name of a class of sources goes before that of a covariate.
        offset: how long past midnight UTC, or past Monday, bars open; none for 0.
    """

    interval: str
    of: Source | str | None = None
    offset: str | None = None

    def __post_init__(self) -> None:
        _ = self.grid
        if isinstance(self.of, str):
            check_path_part(self.of, "the covariate `of`")
        elif self.of is not None and not isinstance(self.of, Source):
            raise ConfigError(
                f"Resampled of {self.of!r:.80}: give the name of a covariate, or a Source"
            )

    @property
    def grid(self) -> Interval:
        """The interval in seconds, with its grid."""
        return parse_interval(self.interval, self.offset)
