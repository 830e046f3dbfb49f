"""Reads many HDF5 files as ``hdf5_child`` does, each in a fork of this process.

Run as a module. A line of stdin is ``path<TAB>output``: the table in ``path`` is read under the
limits of the package's own process, and what that writes to stdout goes to ``output``. The answer
is a line of JSON: ``code`` as in ``subprocess``, ``seconds`` of computing, ``mebibytes`` at most.
"""

import os
import sys

import btc_datamodule.sources.files.hdf5_nodes
from btc_datamodule.sources.files.hdf5_child import main
from tests.forks import tell_end

assert btc_datamodule.sources.files.hdf5_nodes


def serve() -> None:
    for line in sys.stdin:
        path, output = line.rstrip("\n").split("\t")
        pid = os.fork()
        if not pid:
            try:
                target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(target, 1)
                main(path, None)
            finally:
                os._exit(1)
        tell_end(pid)


if __name__ == "__main__":
    serve()
