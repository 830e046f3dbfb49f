"""What a process may take that reads a file of a stranger: memory and time by the file's size.

Such files may ask for terabytes, or for ever. Each start of such a process imports this, so that
it imports little.
"""

import contextlib
import math
import signal
from pathlib import Path

MEBIBYTE = 2**20

_LIFE = 24 * 3600
"""Seconds after which the process ends if nobody is left to end it."""


def limit_bytes(size: int) -> int:
    """How many bytes a file of ``size`` bytes may unpack to.

    Candles shrink tenfold at best. So a hundredfold is allowed, up to 4 GiB, and 64 MiB to any
    file; beyond 4 GiB, sixteenfold.
    """
    return max(64 * MEBIBYTE, min(100 * size, 4096 * MEBIBYTE), 16 * size)


def limit_seconds(size: int) -> int:
    """How many seconds of computing a file of ``size`` bytes may take; 4 for a small one.

    Forty megabytes a second, a fifth of what gzip unpacks on a slow machine. It is computing that
    is counted, so that a busy machine or a slow disk ends nothing.
    """
    return math.ceil(2 + limit_bytes(size) / 40e6)


def limit_process(size: int, room: int = 256 * MEBIBYTE) -> None:
    """Bound what this process may take, for a file of ``size`` bytes, and have it end alone.

    Args:
        size: of the file.
        room: bytes of address space for the library itself, beyond what is mapped already.
    """
    with contextlib.suppress(AttributeError):  # Windows has no alarm
        signal.alarm(_LIFE)
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # Linux: end when the one who started this ends
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = math.ceil(used.ru_utime + used.ru_stime) + limit_seconds(size)
    _lower(resource.RLIMIT_CPU, seconds)
    _lower(resource.RLIMIT_CORE, 0)
    with contextlib.suppress(OSError):
        pages = int(Path("/proc/self/statm").read_bytes().split()[0])
        mapped = pages * resource.getpagesize()
        _lower(resource.RLIMIT_AS, mapped + 3 * limit_bytes(size) + room)


def _lower(which: int, limit: int) -> None:
    import resource

    soft, hard = resource.getrlimit(which)
    known = [each for each in (limit, soft, hard) if each != resource.RLIM_INFINITY]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(which, (min(known), hard))
