"""The process that reads HDF5 files of others: its limits, and its end."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import pytest

from btc_datamodule.errors import SourceError
from btc_datamodule.sources.files import foreign_hdf5
from btc_datamodule.sources.files.foreign_hdf5 import read_hdf5
from tests.sources.files.helpers import matrix


def make(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["bars"] = matrix()
    return path


HALF_A_TABLE = json.dumps(
    {"is_named": False, "rows": 9, "columns": [{"name": "", "kind": "number", "dtype": "int64"}]}
)


def play(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Have other code take the place of the process."""
    monkeypatch.setattr(foreign_hdf5, "COMMAND", (sys.executable, "-c", code))


def test_a_script_without_a_guard_reads_from_any_folder(tmp_path: Path) -> None:
    make(tmp_path / "a.h5")
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong numpy')")
    (tmp_path / "script").mkdir()
    script = tmp_path / "script" / "load.py"
    script.write_text(
        "from pathlib import Path\n"
        "from btc_datamodule.sources.files.foreign_hdf5 import read_hdf5\n"
        "print('height', read_hdf5(Path('a.h5'), None).frame.height)\n"
    )
    paths = os.pathsep.join(each for each in sys.path if each)
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "height 3\n", done.stderr


def test_threads_read_at_once(tmp_path: Path) -> None:
    paths = [make(tmp_path / f"{i}.h5") for i in range(3)]
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda p=path: found.append(read_hdf5(p, None).frame.height))
        for path in paths
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [3, 3, 3]


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed on it (signal 11)"),
        ("import os; os.abort()", "damaged HDF5 data: the library crashed on it (signal 6)"),
        ("import os; os.kill(os.getpid(), 24)", "computed for more than 4 seconds, the limit for"),
        ("import os; os.kill(os.getpid(), 9)", "was ended from outside (signal 9)"),
        ("raise ImportError('no h5py')", "that reads HDF5 files failed: ImportError: no h5py"),
        ("print('{\"error\": \"it says so\"}')", "it says so"),
        (f"print({HALF_A_TABLE!r})", "failed: it ended with 0"),
    ],
)  # fmt: skip
def test_the_end_of_the_process_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, problem: str
) -> None:
    make(tmp_path / "a.h5")
    play(monkeypatch, code)
    with pytest.raises(SourceError) as caught:
        read_hdf5(tmp_path / "a.h5", None)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_process_that_computes_for_ever_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "a.h5")
    limit = (
        "import btc_datamodule.sources.files.child_limits as c; c.limit_seconds = lambda size: 0"
    )
    play(monkeypatch, f"{limit}; c.limit_process(0)\nwhile True: pass")
    began = time.monotonic()
    with pytest.raises(SourceError, match=r"computed for more than 4 seconds"):
        read_hdf5(tmp_path / "a.h5", None)
    assert time.monotonic() - began < 15


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "a.h5")
    limit = "import btc_datamodule.sources.files.child_limits as c; c.limit_process(0)"
    play(monkeypatch, f"{limit}\nbytearray(2**30)")
    with pytest.raises(SourceError, match=r"failed: MemoryError"):
        read_hdf5(tmp_path / "a.h5", None)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for what runs")
def test_the_end_of_the_parent_leaves_no_process_behind(
    tmp_path: Path, how: signal.Signals
) -> None:
    make(tmp_path / "a.h5")
    waits = (
        "import btc_datamodule.sources.files.child_limits as c, os, time; c.limit_process(0); "
        f"open({str(tmp_path / 'pid')!r}, 'w').write(f'{{os.getpid()}}\\\\n'); time.sleep(60)"
    )
    script = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from pathlib import Path; from btc_datamodule.sources.files import "
        f'foreign_hdf5 as f; f.COMMAND = (sys.executable, "-c", "{waits}"); '
        f"f.read_hdf5(Path({str(tmp_path / 'a.h5')!r}), None)"
    )
    paths = os.pathsep.join(each for each in sys.path if each)
    environment = {**os.environ, "PYTHONPATH": paths}
    parent = subprocess.Popen([sys.executable, "-c", script], env=environment, stderr=-3)
    deadline = time.monotonic() + 60
    noted = tmp_path / "pid"
    while not (noted.exists() and noted.read_text().endswith("\n")):
        assert time.monotonic() < deadline
        assert parent.poll() is None
        time.sleep(0.02)
    parent.send_signal(how)
    parent.wait(30)
    child = Path("/proc") / noted.read_text().strip() / "stat"
    while child.exists() and child.read_text().rpartition(") ")[2][0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.02)
