"""The gather of a batch as one kernel, in Triton, which comes with the torch that knows GPUs.

Imported only where there is a GPU and Triton: see ``held.find_kernel``. It copies words of memory,
whatever they hold, so that its batches are those of plain torch, bit for bit.
"""

# What a kernel is given are pointers, which Python has no types for.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["at", "interval", "first"])
def copy_windows(
    positions,
    at,
    starts,
    x,
    observed,
    y,
    out_x,
    out_observed,
    out_y,
    out_times,
    interval,
    first,
    x_row: tl.constexpr,
    x_window: tl.constexpr,
    seen_row: tl.constexpr,
    seen_window: tl.constexpr,
    y_item: tl.constexpr,
    is_complete: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """Copy all that belongs to some windows; program (w, p) does piece p of window w.

    The pieces are ``block`` words of ``x`` each, and a last one of all the rest.

    Args:
        positions: pointer to int64, of windows of the stage.
        at: where in them those of the batch begin.
        starts: pointer to int64, the first row of each window of the stage.
        x: pointer to the rows as whole-number words.
        observed: pointer to bytes, a row after another; not read if ``is_complete``.
        y: pointer to int32, the targets of the stage.
        out_x: pointer to (B, ``x_window`` words).
        out_observed: pointer to (B, ``seen_window``) of a byte each.
        out_y: pointer to (B, ``y_item`` int32 words).
        out_times: pointer to (B,) int64.
        interval: seconds from one row to the next.
        first: the time of the last row of the window that starts at row 0.
        x_row: words of a row of ``x``.
        x_window: of a window.
        seen_row: bytes of a row of ``observed``.
        seen_window: of a window.
        y_item: words of a target; 0 to leave ``out_y`` alone.
        is_complete: whether all is observed.
        block: see above, a power of 2.
    """
    window = tl.program_id(0).to(tl.int64)
    piece = tl.program_id(1)
    each = tl.arange(0, block)
    position = tl.load(positions + at + window)
    start = tl.load(starts + position)
    if piece < (x_window + block - 1) // block:
        words = out_x.to(tl.pointer_type(x.dtype.element_ty), bitcast=True)
        place = piece * block + each
        inside = place < x_window
        copied = tl.load(x + start * x_row + place, mask=inside)
        # Written past the cache, in which rows that other windows share had better stay: 114 % of
        # the speed of a copy become 123 % (100 MB of windows from 24 MB of rows, H200).
        tl.store(words + window * x_window + place, copied, mask=inside, cache_modifier=".cs")
    else:
        tl.store(out_times + window, start * interval + first)
        seen = out_observed.to(tl.pointer_type(tl.uint8), bitcast=True)
        for low in range(0, seen_window, block):
            place = low + each
            inside = place < seen_window
            mask = tl.full((block,), 1, tl.uint8)
            if not is_complete:
                rows = observed.to(tl.pointer_type(tl.uint8), bitcast=True)
                mask = tl.load(rows + start * seen_row + place, mask=inside)
            tl.store(seen + window * seen_window + place, mask, mask=inside)
        targets = out_y.to(tl.pointer_type(tl.int32), bitcast=True)
        for low in range(0, y_item, block):
            place = low + each
            inside = place < y_item
            target = tl.load(y + position * y_item + place, mask=inside)
            tl.store(targets + window * y_item + place, target, mask=inside)
