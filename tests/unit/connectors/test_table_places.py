"""How far a table is read: what a place keeps, and where late rows are looked for."""

import pytest

from penstock.connectors.table_places import Horizon, Mark, TablePlace, beginning
from penstock.core.errors import StoreError


def test_a_place_is_what_its_text_says():
    place = beginning(7, Horizon(12, "{[9,10)}"), "2026-01-01").behind(("2026-01-01", "é"))
    place = place.looking(Horizon(15), "2026-01-02").behind(("2026-01-01", "a"))
    assert TablePlace.from_text(place.to_text()) == place
    with pytest.raises(StoreError, match="not one that this version writes"):
        TablePlace.from_text('{"place": 1}')


def test_the_floor_waits_for_every_transaction_that_was_open():
    place = beginning(1, Horizon(100, "{[90,91)}"), "10").behind(("10",)).settled()
    place = place.looking(Horizon(110, "{[90,91)}"), "20").settled()
    for end in (120, 130):
        place = place.looking(Horizon(end, "{[90,91)}"), str(end)).settled()
        assert place.floor == "10", "transaction 90 may have written a row behind 10"
    place = place.looking(Horizon(140, "{[133,135)}"), "140").settled()
    assert place.floor == "10", "90 had not ended at the last look: its rows come in this one"
    place = place.looking(Horizon(150, "{[149,150)}"), "150").settled()
    assert (place.older, place.younger) == (Mark(100, "10"), Mark(150, "150"))
    place = place.looking(Horizon(160, "{[149,150)}"), "160").settled().looking(Horizon(170), "170").settled()
    assert place.floor == "10", "149 began to write before 150 was there"
    place = place.looking(Horizon(180), "180")
    assert (place.floor, place.younger) == ("150", Mark(180, "180"))


def test_late_rows_move_no_other_place():
    place = beginning(1, Horizon(100), "10").behind(("10",)).looking(Horizon(110), "20")
    late = place.behind(("4",))
    assert (late.after, late.late, late.now) == (("10",), ("4",), Horizon(110))
    assert late.settled() == place.settled()
    assert late.settled().seen == Horizon(110)
