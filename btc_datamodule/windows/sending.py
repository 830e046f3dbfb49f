"""What other processes are sent: found out before they start, and said in one line.

``fork`` copies all that there is; ``spawn`` and ``forkserver`` send the dataset through pickle,
which writes functions and classes as the path to import them from. A lambda, or a function within a
function, has none; what was typed into a notebook has one that no other process knows.
"""

import multiprocessing
import pickle
import sys
from collections.abc import Mapping
from typing import Any, Literal

from btc_datamodule.errors import ConfigError, get_first_line

StartMethod = Literal["fork", "spawn", "forkserver"]
"""How the processes that load batches start."""


def check_sendable(parts: Mapping[str, Any], start_method: str | None, otherwise: str) -> None:
    """Raise ``ConfigError`` if a process cannot be sent a part of what it needs.

    Args:
        parts: by the name of the argument that they come from.
        start_method: how the processes start; None for the platform's way.
        otherwise: what to do if the part is to stay what it is.
    """
    method = start_method or multiprocessing.get_start_method()
    if method == "fork":
        return
    for name, part in parts.items():
        reason = find_obstacle(part)
        if reason is not None:
            raise ConfigError(
                f"{name} {reason}, which a process started by {method} cannot be sent: put it into "
                "a module of its own, at the top level (`def`, `class`), and import it; or "
                f"{otherwise}"
            )


def find_obstacle(part: Any) -> str | None:
    """Why another process cannot be sent a thing; None if it can."""
    path = getattr(part, "__qualname__", "")
    if "<lambda>" in path:
        return "is a lambda"
    try:
        pickle.dumps(part)
    except Exception as error:  # whatever a class raises that cannot be pickled
        return f"cannot be pickled ({get_first_line(error)})"
    kind = part if hasattr(part, "__qualname__") else type(part)
    main = sys.modules["__main__"]
    typed_in = getattr(main, "__spec__", None) is None and not hasattr(main, "__file__")
    if typed_in and getattr(kind, "__module__", "") == "__main__":
        return "was typed into a notebook or an interpreter"
    return None
