"""Every planted leak is found by whom it must be found, and its clean twin passes."""

import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from btc_datamodule import BTCDataModule, Feature, LookAheadError
from tests.audit.planted import LEAKS
from tests.audit.planted.features import write_side_file
from tests.audit.planted.leak import BUILD, INPUTS, Leak, make


def prepare(leak: Leak, folder: Path) -> BTCDataModule:
    arguments = dict(leak.arguments)
    if callable(arguments.get("features")):
        read = functools.partial(arguments["features"], path=write_side_file(folder))
        arguments["features"] = [Feature("side", 1, read)]
    dm = make(folder, leak.kind, **arguments)
    dm.prepare_data()
    if leak.change is not None:
        dm.setup()
        dm = leak.change(dm)
    return dm


def list_clean_arguments(leak: Leak) -> dict[str, Any]:
    arguments = leak.arguments | leak.clean
    return {name: value for name, value in arguments.items() if value is not None}


def list_leaks() -> Iterator[Any]:
    """All leaks; without ``stress`` those by which each guarantee fails at least once."""
    failed: set[str] = set()
    for name, leak in LEAKS.items():
        marks = () if {*leak.found_by} - failed else (pytest.mark.stress,)
        failed |= {*leak.found_by}
        yield pytest.param(leak, id=name, marks=marks)


@pytest.mark.parametrize("leak", list_leaks())
def test_a_planted_leak_is_found_by_whom_it_must_be_found(
    leak: Leak, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as planted:
        if leak.plant is not None:
            leak.plant(planted)
        if leak.found_by == (BUILD,):
            with pytest.raises(LookAheadError):
                prepare(leak, tmp_path)
        else:
            found = prepare(leak, tmp_path).audit()
            assert set(leak.found_by) <= set(found.failed), str(found)


def list_twins() -> Iterator[Any]:
    """The clean twins, one for all leaks that share it; most of them run with ``stress``."""
    seen: list[tuple[Any, ...]] = []
    for name, leak in LEAKS.items():
        twin = (leak.clean_kind, {k: id(v) for k, v in list_clean_arguments(leak).items()})
        if twin not in seen:
            marks = () if len(seen) % 16 == 0 else (pytest.mark.stress,)
            yield pytest.param(leak, id=name, marks=marks)
            seen.append(twin)


@pytest.mark.parametrize("leak", list_twins())
def test_the_same_without_the_leak_passes(leak: Leak, tmp_path: Path) -> None:
    arguments = list_clean_arguments(leak)
    twin = replace(leak, kind=leak.clean_kind, arguments=arguments, change=None)
    found = prepare(twin, tmp_path).audit()
    assert found.passed, str(found)


def test_the_table_is_as_long_as_the_documents_say() -> None:
    told = Path(__file__).parents[2] / "docs" / "evaluation.md"
    assert f"{len(LEAKS)} leaks" in told.read_text()


def test_a_transform_that_mixes_samples_is_told_as_such(tmp_path: Path) -> None:
    found = prepare(LEAKS["a transform that mixes a batch"], tmp_path).audit()
    (detail,) = [each.detail for each in found.findings if each.guarantee == INPUTS]
    assert "each without the rest of its batch, changes" in detail
