"""What it takes to test features, targets and sources of your own.

- ``assert_causal(feature)``: the feature reads no later bar, and none before its lookback;
- ``assert_no_leakage(dm)``: the audit of a datamodule passes;
- ``SourceContract``, ``RecordSourceContract``, ``TargetContract``, ``SplitContract``: all that the
  package relies on in a source, target or split, as tests that a class of yours inherits;
- ``fake_exchange``: a pytest fixture, an exchange on this machine with trouble on demand; import
  it in your ``conftest.py``;
- ``candles()``: a Hypothesis strategy of valid candles, with holes and extreme values.

>>> assert_causal("momentum = close / close.shift(10) - 1")

All but the assertions need pytest or Hypothesis: ``pip install pytest hypothesis``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from btc_datamodule.testing.assertions import assert_causal, assert_no_leakage

if TYPE_CHECKING:
    from btc_datamodule.testing.contracts import (
        RecordSourceContract,
        SourceContract,
        SplitContract,
        TargetContract,
    )
    from btc_datamodule.testing.fixtures import fake_exchange
    from btc_datamodule.testing.strategies import candles

_HOME = {
    "RecordSourceContract": "contracts",
    "SourceContract": "contracts",
    "SplitContract": "contracts",
    "TargetContract": "contracts",
    "candles": "strategies",
    "fake_exchange": "fixtures",
}

__all__ = [
    "RecordSourceContract",
    "SourceContract",
    "SplitContract",
    "TargetContract",
    "assert_causal",
    "assert_no_leakage",
    "candles",
    "fake_exchange",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'btc_datamodule.testing' has no attribute {name!r}")
    try:
        module = import_module(f"btc_datamodule.testing.{_HOME[name]}")
    except ModuleNotFoundError as error:
        if error.name not in ("pytest", "hypothesis"):
            raise
        raise ImportError(
            f"btc_datamodule.testing.{name} needs {error.name}: pip install {error.name}"
        ) from None
    thing = globals()[name] = _publish(getattr(module, name))
    return thing


def _publish(thing: Any) -> Any:
    """Name a class or function by the path from where it is to be imported."""
    thing.__module__ = __name__
    return thing


for _assertion in (assert_causal, assert_no_leakage):
    _publish(_assertion)
