"""Counts of a fit put right, as plain dicts: each case as a Trainer leaves it."""

from copy import deepcopy
from typing import Any

import pytest

from btc_datamodule.training.counts import (
    BATCHES,
    COUNTS,
    EPOCHS,
    STEPS,
    correct_last_batch,
    correct_progress,
    rewind_accumulated,
)

Four = tuple[int, int, int, int]


def progress(current: Four, total: Four | None = None) -> dict[str, dict[str, int]]:
    """Ready, started, processed and completed; the total is the same if it is not given."""
    total = current if total is None else total
    return {
        "current": dict(zip(COUNTS, current, strict=True)),
        "total": dict(zip(COUNTS, total, strict=True)),
    }


def state_of(
    epochs: Four,
    batches: Four,
    *,
    last: bool = False,
    steps: int = 0,
    epochs_total: Four | None = None,
    batches_total: Four | None = None,
) -> dict[str, Any]:
    return {
        EPOCHS: progress(epochs, epochs_total),
        BATCHES: progress(batches, batches_total) | {"is_last_batch": last},
        STEPS: {"optimizer": {"step": progress((steps, 0, 0, steps))}},
        "state_dict": {"anything": "else"},
    }


def counts(state: dict[str, Any], name: str, kind: str = "current") -> Four:
    ready, started, processed, completed = (state[name][kind][count] for count in COUNTS)
    return ready, started, processed, completed


def test_a_state_amid_a_batch_stands_as_it_is() -> None:
    state = state_of((2, 2, 1, 1), (4, 4, 3, 3), batches_total=(12, 12, 11, 11))
    assert correct_progress(state) == (state, False, False)


def test_a_state_between_a_step_and_its_validation_has_the_batch_behind_it() -> None:
    found = correct_progress(state_of((1, 1, 0, 0), (4, 4, 4, 3)))
    assert counts(found.state, BATCHES) == counts(found.state, BATCHES, "total") == (4, 4, 4, 4)
    assert counts(found.state, EPOCHS) == (1, 1, 0, 0)
    assert (found.after_step, found.before_schedulers) == (True, False)


def test_an_epoch_that_is_about_to_start_has_not_begun() -> None:
    found = correct_progress(state_of((2, 1, 1, 1), (8, 8, 8, 8), last=True))
    assert counts(found.state, EPOCHS) == (1, 1, 1, 1)
    assert found[1:] == (False, False)


@pytest.mark.parametrize("completed", [1, 0])
def test_an_epoch_that_was_cut_short_goes_on(completed: int) -> None:
    found = correct_progress(state_of((1, 1, 1, completed), (5, 5, 5, 5)))
    assert counts(found.state, EPOCHS) == (1, 1, 0, 0)
    assert counts(found.state, EPOCHS, "total") == (1, 1, 0, 0)
    assert found[1:] == (False, False)


def test_an_epoch_that_ended_is_complete_but_for_the_step_of_its_schedulers() -> None:
    found = correct_progress(state_of((1, 1, 1, 0), (8, 8, 8, 8), last=True))
    assert counts(found.state, EPOCHS) == (1, 1, 1, 1)
    assert found[1:] == (False, True)


def test_an_epoch_that_is_over_stands_as_it_is() -> None:
    state = state_of((1, 1, 1, 1), (8, 8, 8, 8), last=True)
    assert correct_progress(state) == (state, False, False)


def test_what_was_begun_and_lost_leaves_the_totals() -> None:
    found = correct_progress(
        state_of(
            (2, 2, 1, 1),
            (4, 4, 3, 3),
            epochs_total=(3, 3, 1, 1),
            batches_total=(14, 13, 11, 11),
        )
    )
    assert counts(found.state, EPOCHS, "total") == (2, 2, 1, 1)
    assert counts(found.state, BATCHES, "total") == (12, 12, 11, 11)


@pytest.mark.parametrize(
    ("current", "batches", "last"),
    [
        ((7, 7, 7, 7), 8, False),  # the eighth is on its way to the device
        ((8, 8, 7, 7), 8, True),
        ((8, 7, 7, 7), 8, True),
        ((7, 7, 7, 7), float("inf"), True),  # nobody knows
    ],
)
def test_a_last_batch_on_its_way_to_the_device_is_not_done(
    current: Four, batches: float, last: bool
) -> None:
    state = correct_last_batch(state_of((1, 1, 0, 0), current, last=True), batches)
    assert state[BATCHES]["is_last_batch"] == last
    assert counts(state, BATCHES) == current


@pytest.mark.parametrize(
    ("done", "steps", "again"), [(3, 1, 0), (4, 1, 1), (5, 1, 2), (6, 2, 0), (1, 0, 1)]
)
def test_batches_since_the_last_step_are_seen_again(done: int, steps: int, again: int) -> None:
    total = (done + 8,) * 4
    state = state_of((2, 2, 1, 1), (done,) * 4, steps=steps, batches_total=total)
    state, found = rewind_accumulated(state, 3)
    assert found == again
    assert counts(state, BATCHES) == (done - again,) * 4
    assert counts(state, BATCHES, "total") == (done + 8 - again,) * 4


@pytest.mark.parametrize(
    "state",
    [
        state_of((1, 1, 1, 1), (7, 7, 7, 7), steps=2),
        state_of((1, 1, 0, 0), (7, 7, 7, 7), steps=3, last=True),
        state_of((1, 1, 0, 0), (7, 7, 7, 7), steps=3),
    ],
    ids=["the epoch is over", "the last batch has had its step", "another number to a step"],
)
def test_no_batch_is_seen_again_where_no_gradients_are_lost(state: dict[str, Any]) -> None:
    assert rewind_accumulated(state, 3) == (state, 0)


def test_a_last_batch_that_is_seen_again_is_not_the_last() -> None:
    state, again = rewind_accumulated(state_of((1, 1, 0, 0), (8, 8, 7, 7), steps=2, last=True), 3)
    assert again == 1
    assert not state[BATCHES]["is_last_batch"]


def test_no_state_that_is_given_is_changed() -> None:
    given = [
        state_of((2, 1, 1, 1), (8, 8, 8, 8), batches_total=(9, 9, 8, 8)),
        state_of((1, 1, 0, 0), (4, 4, 4, 3), last=True),
        state_of((1, 1, 0, 0), (4, 4, 4, 4), last=True, steps=1),
    ]
    before = deepcopy(given)
    for state in given:
        correct_progress(state)
        correct_last_batch(state, 8)
        rewind_accumulated(state, 3)
    assert given == before
