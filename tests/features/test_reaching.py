"""A fingerprint follows what a function names in other files of its user, and into no library."""

import importlib
import logging
import os
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from btc_datamodule.features.fingerprint import fingerprint
from btc_datamodule.features.reaching import is_own_class, is_own_file, is_own_module

Imported = Callable[[dict[str, str]], types.ModuleType]


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Imported:
    """Writes files, by their name, and imports ``feats`` of them as a new process would."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(files: dict[str, str]) -> types.ModuleType:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        for module in ("feats", "helpers", "tool", "tool.inner"):
            monkeypatch.delitem(sys.modules, module, raising=False)
        importlib.invalidate_caches()
        return importlib.import_module("feats")

    return write


CALL = "import helpers\ndef f(bars): return helpers.scale(bars['close'])\n"
SCALE = "def scale(c): return c * {}\n"
WAYS = {
    "a function of a module": {"feats.py": CALL, "helpers.py": SCALE},
    "a function that it calls": {
        "feats.py": CALL,
        "helpers.py": "from tool import inner\ndef scale(c): return inner.twice(c)\n",
        "tool/__init__.py": "",
        "tool/inner.py": "def twice(c): return c * {}\n",
    },
    "a constant of a module": {
        "feats.py": "import helpers\ndef f(bars): return bars['close'] * helpers.N\n",
        "helpers.py": "N = {}\n",
    },
    "a function by its own name": {
        "feats.py": "from helpers import scale as s\ndef f(bars): return s(bars['close'])\n",
        "helpers.py": SCALE,
    },
    "a constant by its own name": {
        "feats.py": "from helpers import N\ndef f(bars): return bars['close'] * N\n",
        "helpers.py": "N = {}\n",
    },
    "a list": {
        "feats.py": "from helpers import N\ndef f(bars): return bars['close'] * N[0]\n",
        "helpers.py": "N = [{}, [3]]\n",
    },
    "a dict": {
        "feats.py": "from helpers import N\ndef f(bars): return bars['close'] * N['by']\n",
        "helpers.py": "N = {{'by': {}}}\n",
    },
    "an array": {
        "feats.py": "from helpers import N\ndef f(bars): return bars['close'] * N[0]\n",
        "helpers.py": "import numpy as np\nN = np.array([{}])\n",
    },
    "a frame": {
        "feats.py": "from helpers import N\ndef f(bars): return bars['close'] * N['by'][0]\n",
        "helpers.py": "import polars as pl\nN = pl.DataFrame({{'by': [{}]}})\n",
    },
    "a tensor": {
        "feats.py": "from helpers import N\ndef f(bars): return bars['close'] * float(N)\n",
        "helpers.py": "import torch\nN = torch.tensor({})\n",
    },
    "what was read from a file": {
        "feats.py": (
            "import json, pathlib\n"
            "N = json.loads(pathlib.Path(__file__).with_name('n.json').read_text())\n"
            "def f(bars): return bars['close'] * N['by']\n"
        ),
        "n.json": '{{"by": {}}}',
    },
    "a class": {
        "feats.py": "from helpers import Scale\ndef f(bars): return Scale()(bars['close'])\n",
        "helpers.py": (
            "import tool.inner as inner\n"
            "class Scale:\n    def __call__(self, c): return inner.twice(c)\n"
        ),
        "tool/__init__.py": "",
        "tool/inner.py": "def twice(c): return c * {}\n",
    },
    "an object": {
        "feats.py": "from helpers import scale\ndef f(bars): return scale(bars['close'])\n",
        "helpers.py": (
            "import tool.inner as inner\n"
            "class Scale:\n"
            "    def __init__(self): self.by = inner.N\n"
            "    def __call__(self, c): return c * self.by\n"
            "scale = Scale()\n"
        ),
        "tool/__init__.py": "",
        "tool/inner.py": "N = {}\n",
    },
    "a function with a cache": {
        "feats.py": (
            "import functools, helpers\n"
            "@functools.lru_cache\ndef find(): return helpers.N\n"
            "def f(bars): return bars['close'] * find()\n"
        ),
        "helpers.py": "N = {}\n",
    },
    "an import inside": {
        "feats.py": (
            "def f(bars):\n    from helpers import scale\n    return scale(bars['close'])\n"
        ),
        "helpers.py": SCALE,
    },
    "an import inside a function inside": {
        "feats.py": (
            "def f(bars):\n"
            "    def inner(c):\n        import tool.inner\n        return tool.inner.twice(c)\n"
            "    return inner(bars['close'])\n"
        ),
        "tool/__init__.py": "",
        "tool/inner.py": "def twice(c): return c * {}\n",
    },
    "a choice of functions": {
        "feats.py": "from helpers import ALL\ndef f(bars): return ALL['one'](bars['close'])\n",
        "helpers.py": (
            "import tool.inner\nALL = {'one': lambda c: tool.inner.twice(c), 'none': None}\n"
        ),
        "tool/__init__.py": "",
        "tool/inner.py": "def twice(c): return c * {}\n",
    },
    "what is bound to a function": {
        "feats.py": "from helpers import N\ndef f(bars): return bars['close'] * f.by\nf.by = N\n",
        "helpers.py": "N = {}\n",
    },
}


@pytest.mark.parametrize("files", WAYS.values(), ids=WAYS)
def test_a_change_is_seen_wherever_it_is(files: dict[str, str], imported: Imported) -> None:
    def write(number: str) -> Any:
        keep = {name: text for name, text in files.items() if "{}" not in text}
        return imported(keep | {n: t.format(number) for n, t in files.items() if n not in keep}).f

    first = write("1.5")
    bars = pl.DataFrame({"close": [2.0]})
    before, computed = fingerprint(first), float(first(bars)[0])
    again = write("1.5")
    assert fingerprint(again) == before
    other = write("2.5")
    assert float(other(bars)[0]) / computed == pytest.approx(2.5 / 1.5)
    assert fingerprint(other) != before


def test_what_no_one_can_tell_apart_does_not_stop_a_function_that_names_it(
    imported: Imported,
) -> None:
    text = (
        "import logging, threading, os, numpy as np\n"
        "log, lock, gone = logging.getLogger('x'), threading.Lock(), (n for n in range(3))\n"
        "def f(bars):\n"
        "    with lock: log.info('%s %s', gone, os.sep)\n"
        "    return np.log(bars['close'])\n"
    )
    before = fingerprint(imported({"feats.py": text}).f)
    logging.getLogger("x").addHandler(logging.NullHandler())
    assert fingerprint(imported({"feats.py": text}).f) == before


def test_what_calls_each_other_has_a_fingerprint(imported: Imported) -> None:
    files = {
        "feats.py": "import helpers\nN = 1\ndef f(x): return helpers.g(x)\n",
        "helpers.py": "import feats\ndef g(x): return x and feats.f(x - feats.N)\n",
    }
    assert fingerprint(imported(files).f) == fingerprint(imported(files).f)


def test_many_ways_to_the_same_function_cost_no_more_than_one(imported: Imported) -> None:
    lines = ["def f0(x): return x"]
    lines += [f"def f{n}(x): return f{n - 1}(x) + g{n - 1}(x)" for n in range(1, 60)]
    lines += [f"def g{n}(x): return f{n}(x)" for n in range(60)]
    made = imported({"feats.py": "\n".join([*lines, "f = f59\n"])})
    assert len(fingerprint(made.f)) == 64


def test_other_processes_give_the_same_fingerprint(imported: Imported, tmp_path: Path) -> None:
    files = {
        "feats.py": (
            "import collections, dataclasses, enum, functools, helpers, numpy as np, re\n"
            "Kind = enum.Enum('Kind', 'A B')\n"
            "Pair = collections.namedtuple('Pair', 'a b')\n"
            "@dataclasses.dataclass\nclass Made:\n"
            "    a: int = 1\n    b: list = dataclasses.field(default_factory=list)\n"
            "    @functools.cached_property\n    def c(self): return self.a\n"
            "NAMES, PATTERN, PAIR = {'a', 'b', 'c'}, re.compile('x+'), Pair(1, 2)\n"
            "def f(bars): return helpers.scale(Made(), NAMES, PATTERN, PAIR, Kind.A, np.log)\n"
        ),
        "helpers.py": "def scale(*given): return given\n",
    }
    here = fingerprint(imported(files).f)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from btc_datamodule.features.fingerprint import fingerprint\n"
        "from feats import f; print(fingerprint(f))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert ran.stdout.strip() == here


def test_code_of_the_user_is_told_from_that_of_libraries() -> None:
    assert is_own_file(__file__)
    assert is_own_file("<stdin>")
    assert not is_own_file(np.__file__)
    assert not is_own_file(logging.__file__)
    assert not is_own_file("<frozen importlib._bootstrap>")
    assert not is_own_module(sys)
    assert not is_own_class(threading.Thread)
    assert not is_own_class(int)
    assert is_own_class(type("Typed", (), {"__module__": "__main__"}))
