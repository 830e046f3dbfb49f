"""The pyramid against the bars that it is made of."""

import numpy as np

from btc_datamodule import BTCDataModule
from btc_datamodule.overview.pyramid import PRICES, Level, build_pyramid, join_pairs, read_piece
from tests.factories import HOUR


def test_each_point_is_the_lowest_low_and_the_highest_high_of_its_bars(
    holed: BTCDataModule,
) -> None:
    table = holed.table
    level = build_pyramid(table, points=100).finest
    each = level.seconds // HOUR
    assert (level.first, each) == (table.first, 8)
    for number in range(len(level.low)):
        rows = slice(number * each, (number + 1) * each)
        low, high = table.bars("low")[rows], table.bars("high")[rows]
        if np.isnan(low).all():
            assert np.isnan(level.low[number])
            assert np.isnan(level.high[number])
        else:
            assert level.low[number] == np.nanmin(low)
            assert level.high[number] == np.nanmax(high)
    assert len(level.low) == 93


def test_each_level_has_half_the_points_and_the_same_extremes(holed: BTCDataModule) -> None:
    pyramid = build_pyramid(holed.table, points=100)
    levels = [*pyramid.list_levels()]
    assert [len(each.low) for each in levels] == [93, 47, 24, 12, 6, 3, 2, 1]
    assert {float(np.nanmin(each.low)) for each in levels} == {np.nanmin(holed.table.bars("low"))}
    assert [each.seconds // HOUR for each in levels] == [8 << n for n in range(8)]
    assert len(pyramid.choose_level(30).low) == 24
    assert len(pyramid.choose_level(0).low) == 1


def test_a_stretch_of_no_known_bar_is_nan_and_its_neighbour_is_not_hidden() -> None:
    low = np.array([np.nan, np.nan, 3.0, np.nan, np.nan])
    level = join_pairs(join_pairs(Level(0, 1, low, low)))
    np.testing.assert_array_equal(level.low, [3.0, np.nan])


def test_a_short_history_is_there_bar_by_bar(holed: BTCDataModule) -> None:
    table = holed.table
    (piece,) = build_pyramid(table, [("the last bars", table.span[1])]).pieces
    assert (piece.first, piece.seconds) == (table.first, HOUR)
    for number, name in enumerate(PRICES):
        np.testing.assert_array_equal(piece.prices[number], table.bars(name))


def test_pieces_lie_around_what_is_to_be_seen_and_not_upon_each_other(
    holed: BTCDataModule,
) -> None:
    table = holed.table
    middle = table.first + 300 * HOUR
    marks = [("end", table.span[1]), ("val", middle), ("near val", middle + 5 * HOUR)]
    pieces = build_pyramid(table, marks, whole_bars=10, piece_bars=40).pieces
    assert [each.label for each in pieces] == ["val", "end"]
    assert [each.prices.shape for each in pieces] == [(4, 40)] * 2
    assert pieces[0].first == middle - 20 * HOUR
    assert pieces[1].first == table.span[1] - 40 * HOUR


def test_a_piece_is_no_longer_than_the_history(holed: BTCDataModule) -> None:
    piece = read_piece(holed.table, "all", holed.table.first - 9 * HOUR, 10_000)
    assert piece.first == holed.table.first
    assert piece.prices.shape == (4, holed.table.rows)
