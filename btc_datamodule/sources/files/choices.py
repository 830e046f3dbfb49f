"""What a user says of a table of candles, the same of a file and of a frame: checked and parsed."""

from collections.abc import Mapping, Sequence
from typing import Any

from btc_datamodule.candles.series import COLUMNS, REQUIRED
from btc_datamodule.errors import ConfigError
from btc_datamodule.sources.base import check_path_part
from btc_datamodule.sources.columns import LAYOUTS, LEFT_OUT
from btc_datamodule.sources.files.naming import TIME_NAMES, ColumnNames
from btc_datamodule.sources.files.paths import check_texts, check_time_format, check_timezone
from btc_datamodule.sources.files.values import Reading

Columns = str | list[str] | dict[str, str]


def check_choices(source: Any) -> None:
    """Raise ``ConfigError`` for the first of the fields of a source that says nothing of a table.

    Args:
        source: with ``columns``, ``product``, ``symbol``, ``time_format``, ``timezone``, ``stamp``,
            ``decimal`` and ``drop_invalid``, see ``CandleFile``.
    """
    columns: Any = source.columns
    if not isinstance(columns, str | Sequence | Mapping | None):
        raise ConfigError(f"columns is {columns!r}: it must be a list or names by names")
    check_texts(source, ("product", "symbol", "time_format", "timezone"))
    if not isinstance(source.drop_invalid, bool):
        raise ConfigError(f"drop_invalid is {source.drop_invalid!r}: it must be true or false")
    parse_columns(source.columns)
    if source.product is not None:
        check_path_part(source.product, "product")
    if source.stamp not in (None, "open", "close"):
        raise ConfigError(f"stamp is {source.stamp!r}: choose open or close")
    if source.decimal not in (None, ".", ","):
        raise ConfigError(f"decimal is {source.decimal!r}: choose a point or a comma")
    if source.time_format is not None:
        check_time_format(source.time_format)
    if source.timezone is not None:
        check_timezone(source.timezone)


def make_reading(source: Any) -> Reading:
    """What the fields of a source, those of ``check_choices``, say of its table."""
    return Reading(
        parse_columns(source.columns),
        source.symbol,
        source.time_format,
        source.timezone,
        source.stamp,
        source.decimal,
        source.drop_invalid,
    )


def list_later(source: Any) -> dict[str, Any]:
    """Those fields that not every version had, where they say something, for a digest."""
    later = ("symbol", "time_format", "timezone", "stamp", "decimal", "drop_invalid")
    return {name: getattr(source, name) for name in later if getattr(source, name)}


def parse_columns(columns: Columns | None) -> ColumnNames:
    """Parse ``columns`` into names in order, or by the file's own; ``LEFT_OUT`` to ignore one."""
    if columns is None:
        return None
    if isinstance(columns, str):
        if columns not in LAYOUTS:
            raise ConfigError(
                f"columns {columns!r} is no known layout: use one of {', '.join(LAYOUTS)}, or a "
                "list of the names of the columns in order"
            )
        return LAYOUTS[columns]
    if isinstance(columns, Mapping):
        if not _are_names(columns.values()) and _are_names(columns):
            columns = {old: new for new, old in columns.items()}
        pairs = {str(old): _parse_name(new) for old, new in columns.items()}
        _refuse_repeats(list(pairs.values()))
        return pairs
    order = tuple(map(_parse_name, columns))
    _refuse_repeats(list(order))
    named = ["open_time" if name in TIME_NAMES else name for name in order]
    missing = [name for name in REQUIRED if name not in named]
    if missing:
        raise ConfigError(f"columns: {', '.join(missing)} is missing from the list")
    return order


def _are_names(names: object) -> bool:
    """Whether all are names of columns of candles, or stand for none."""
    known = {*COLUMNS, *TIME_NAMES, "ignore", ""}
    return isinstance(names, Mapping | type({}.values())) and set(names) <= known


def _parse_name(name: str) -> str:
    """A name in ``columns``; ``ConfigError`` if it is none."""
    if name in {"", "ignore"}:
        return LEFT_OUT
    if name not in COLUMNS and name not in TIME_NAMES:
        raise ConfigError(
            f"columns: {name!r} is no column of a candle: use {', '.join(COLUMNS)}, date and time "
            "for a time in two columns, or 'ignore'"
        )
    return name


def _refuse_repeats(names: list[str]) -> None:
    repeated = [name for name in names if name != LEFT_OUT and names.count(name) > 1]
    if repeated:
        raise ConfigError(f"columns: {repeated[0]!r} stands there more than once")
