"""Every planted leak is found by whom it must be found, and its clean twin passes."""

import functools
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from btc_datamodule import BTCDataModule, Feature, LookAheadError
from btc_datamodule.audit.report import Audit
from tests.audit.planted import LEAKS
from tests.audit.planted.features import write_side_file
from tests.audit.planted.leak import BUILD, INPUTS, Kind, Leak, make


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


_known: list[tuple[Kind, dict[str, Any], Audit]] = []


def audit_clean(leak: Leak) -> Audit:
    """The audit of the clean twin; once for all leaks that share it."""
    arguments = list_clean_arguments(leak)
    for kind, known, found in _known:
        if kind is leak.clean_kind and repr(known) == repr(arguments):
            return found
    with tempfile.TemporaryDirectory() as folder:
        twin = replace(leak, kind=leak.clean_kind, arguments=arguments, change=None)
        found = prepare(twin, Path(folder)).audit()
    _known.append((leak.clean_kind, arguments, found))
    return found


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS)
def test_a_planted_leak_is_found_and_its_clean_twin_passes(
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
    clean = audit_clean(leak)
    assert clean.passed, str(clean)


def test_the_table_is_as_long_as_the_documents_say() -> None:
    told = Path(__file__).parents[2] / "docs" / "evaluation.md"
    assert f"{len(LEAKS)} leaks" in told.read_text()


def test_a_transform_that_mixes_samples_is_told_as_such(tmp_path: Path) -> None:
    found = prepare(LEAKS["a transform that mixes a batch"], tmp_path).audit()
    (detail,) = [each.detail for each in found.findings if each.guarantee == INPUTS]
    assert "each without the rest of its batch, changes" in detail
