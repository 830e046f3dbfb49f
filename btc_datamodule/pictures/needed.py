"""matplotlib, which pictures need and nothing else does: the one place that says how to get it."""

from importlib.util import find_spec

from btc_datamodule.errors import ConfigError


def check_matplotlib() -> None:
    """Raise ``ConfigError`` unless matplotlib is installed."""
    if find_spec("matplotlib") is None:
        raise ConfigError("pictures need matplotlib: pip install matplotlib")
