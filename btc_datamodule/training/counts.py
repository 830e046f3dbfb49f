"""The counts of a checkpoint put right: plain dicts in and out, no Lightning.

They are those that a Trainer keeps of a fit under ``checkpoint["loops"]["fit_loop"]``.
"""

from collections.abc import Iterable
from typing import Any

COUNTS = ("ready", "started", "processed", "completed")


def put_right(fit_loop: dict[str, Any]) -> tuple[bool, bool]:
    """Put the counts in the state of a fit loop right, in place.

    Args:
        fit_loop: as ``checkpoint["loops"]["fit_loop"]`` has it.

    Returns:
        Whether it was kept between a step and what may follow it, a validation; and whether at the
        end of an epoch, before ``ReduceLROnPlateau``.
    """
    epochs, batches = fit_loop["epoch_progress"], fit_loop["epoch_loop.batch_progress"]
    _count_once(batches)
    _count_once(epochs)
    total, current = epochs["total"], batches["current"]
    if total["ready"] > total["started"]:
        _move(epochs, ("ready",), -1)
        return False, False
    if total["processed"] < total["started"]:
        stepped = current["completed"] < current["processed"] == current["started"]
        if stepped:
            _move(batches, ("completed",), 1)
        return stepped, False
    complete = total["completed"] == total["processed"]
    if current["processed"] and not _ended(batches):
        _move(epochs, ("processed", "completed") if complete else ("processed",), -1)
    elif not complete:
        _move(epochs, ("completed",), 1)
        return False, True
    return False, False


def see_again(fit_loop: dict[str, Any], accumulate_grad_batches: int) -> int:
    """Count batches whose gradients are lost as not done, in place.

    Args:
        fit_loop: as ``put_right`` leaves it.
        accumulate_grad_batches: batches to an optimizer step.

    Returns:
        How many batches are to be seen again.
    """
    epochs, batches = fit_loop["epoch_progress"]["total"], fit_loop["epoch_loop.batch_progress"]
    if epochs["processed"] == epochs["started"] or _ended(batches):
        return 0
    steps = fit_loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
    whole, again = divmod(int(batches["current"]["processed"]), accumulate_grad_batches)
    if not again or steps["current"]["completed"] != whole:  # it was another number of batches
        return 0
    for kind in ("total", "current"):
        batches[kind] |= dict.fromkeys(COUNTS, batches[kind]["processed"] - again)
    batches["is_last_batch"] = False
    return again


def _count_once(progress: dict[str, Any]) -> None:
    """Leave in the totals, beside what is complete, only what is under way now."""
    total, current = progress["total"], progress["current"]
    total |= {count: total["completed"] + current[count] - current["completed"] for count in COUNTS}


def _ended(batches: dict[str, Any]) -> bool:
    """Whether the last batch of an epoch has had its step."""
    current = batches["current"]
    return bool(batches["is_last_batch"] and current["processed"] == current["ready"])


def _move(progress: dict[str, Any], counts: Iterable[str], by: int) -> None:
    for kind in ("total", "current"):
        for count in counts:
            progress[kind][count] += by
