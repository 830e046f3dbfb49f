"""Processes that serve tests do each piece of work in a fork of themselves, and say how it went."""

import json
import os


def tell_end(pid: int) -> None:
    """Wait for a fork, and print a line of JSON about it.

    ``code`` as in ``subprocess``, ``seconds`` of computing, ``mebibytes`` at most.
    """
    _, status, used = os.wait4(pid, 0)
    told = {
        "code": os.waitstatus_to_exitcode(status),
        "seconds": used.ru_utime + used.ru_stime,
        "mebibytes": used.ru_maxrss / 1024,
    }
    print(json.dumps(told), flush=True)
