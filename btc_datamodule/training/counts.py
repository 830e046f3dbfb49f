"""The counts of a fit in a checkpoint, put right: plain dicts in and out, and no Lightning.

A state is what a Trainer keeps of a fit under ``checkpoint["loops"]["fit_loop"]``. Of it three
entries are used:

    epoch_progress                                          epochs
    epoch_loop.batch_progress                               batches, and ``is_last_batch``
    epoch_loop.automatic_optimization.optim_progress        steps of the optimizer

Epochs and batches are each counted as *ready*, *started*, *processed* and *completed*, in this
order; under ``current`` since the fit or the epoch has begun, and under ``total`` over all. No
state that is given is changed.
"""

from collections.abc import Iterable
from copy import deepcopy
from typing import Any, NamedTuple

State = dict[str, Any]

COUNTS = ("ready", "started", "processed", "completed")
EPOCHS, BATCHES = "epoch_progress", "epoch_loop.batch_progress"
STEPS = "epoch_loop.automatic_optimization.optim_progress"


class Correction(NamedTuple):
    """A state put right, and where in a fit it was kept.

    Attributes:
        state: the state with its counts put right.
        after_step: whether the state was kept between a step and the validation that may follow.
        before_schedulers: whether the state was kept at the end of an epoch, before the step of
            ``ReduceLROnPlateau``.
    """

    state: State
    after_step: bool
    before_schedulers: bool


def correct_progress(state: State) -> Correction:
    """Count as done what was done when a state was kept: see ``training.resume``."""
    state = _copy(state)
    epochs, batches = state[EPOCHS], state[BATCHES]
    _drop_lost(batches)
    _drop_lost(epochs)
    total, current = epochs["total"], batches["current"]
    if total["ready"] > total["started"]:
        _shift(epochs, ("ready",), -1)
        return Correction(state, False, False)
    if total["processed"] < total["started"]:
        stepped = current["completed"] < current["processed"] == current["started"]
        if stepped:
            _shift(batches, ("completed",), 1)
        return Correction(state, stepped, False)
    complete = total["completed"] == total["processed"]
    if current["processed"] and not _is_over(batches):
        _shift(epochs, ("processed", "completed") if complete else ("processed",), -1)
    elif not complete:
        _shift(epochs, ("completed",), 1)
        return Correction(state, False, True)
    return Correction(state, False, False)


def correct_last_batch(state: State, batches: float) -> State:
    """Leave a last batch to be done that was on its way to the device when a state was kept.

    Args:
        state: of a running fit.
        batches: how many an epoch of the fit has; infinite if that is not known.
    """
    state = _copy(state)
    current = state[BATCHES]["current"]
    if current["ready"] == current["started"] and current["ready"] < batches < float("inf"):
        state[BATCHES]["is_last_batch"] = False
    return state


def rewind_accumulated(state: State, batches_per_step: int) -> tuple[State, int]:
    """Count batches as not done whose gradients were accumulated, and are lost.

    Args:
        state: as ``correct_progress`` gives it.
        batches_per_step: batches to a step of the optimizer.

    Returns:
        The state, and how many batches are to be seen again.
    """
    state = _copy(state)
    epochs, batches = state[EPOCHS]["total"], state[BATCHES]
    if epochs["processed"] == epochs["started"] or _is_over(batches):
        return state, 0
    steps = state[STEPS]["optimizer"]["step"]["current"]["completed"]
    whole, again = divmod(int(batches["current"]["processed"]), batches_per_step)
    if not again or steps != whole:  # it was another number of batches
        return state, 0
    for kind in ("total", "current"):
        batches[kind] |= dict.fromkeys(COUNTS, batches[kind]["processed"] - again)
    batches["is_last_batch"] = False
    return state, again


def _copy(state: State) -> State:
    """A copy of a state whose counts of epochs and batches may be changed."""
    return state | {name: deepcopy(state[name]) for name in (EPOCHS, BATCHES)}


def _drop_lost(progress: State) -> None:
    """Leave in the totals, beside what is complete, only what is under way now."""
    total, current = progress["total"], progress["current"]
    total |= {count: total["completed"] + current[count] - current["completed"] for count in COUNTS}


def _is_over(batches: State) -> bool:
    """Whether the last batch of an epoch has had its step."""
    current = batches["current"]
    return bool(batches["is_last_batch"] and current["processed"] == current["ready"])


def _shift(progress: State, counts: Iterable[str], by: int) -> None:
    """Add to some counts, current and total."""
    for kind in ("total", "current"):
        for count in counts:
            progress[kind][count] += by
