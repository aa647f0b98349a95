"""Features of given events over the log: what the whole history in memory gives, to the last bit."""

import random

import pytest

from penstock.app.requests import features_for_events
from penstock.core.errors import InputError
from penstock.engine import ordered_log
from penstock.engine.asked_events import features_over_log
from penstock.engine.logged_history import history_of
from penstock.engine.training_set import features_for_frame, source_names
from tests.unit.app.shop import feed, open_project, payments, write_project


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    folder = write_project(tmp_path_factory.mktemp("shop"))
    with open_project(folder) as opened:
        feed(opened, 200)
        opened.engine.flush()
        yield opened


def both(runtime, events, **options):
    service = runtime.project.services["features"]
    references, source = service.features, runtime.project.sources["payments"]
    history = history_of(runtime.store, runtime.plan, sources=source_names(references))
    whole = features_for_frame(references, events, history=history, **options).to_arrow()
    streamed = features_over_log(runtime.store, references, source, events, **options).to_arrow()
    return whole.combine_chunks(), streamed.combine_chunks()


KNOWN, OTHERS = payments(200), payments(60, seed=9, first=190)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rows", [50, 4096])
def test_they_are_those_of_the_whole_history(runtime, monkeypatch, seed, rows):
    monkeypatch.setattr(ordered_log, "_BLOCK_ROWS", rows // 3)
    monkeypatch.setattr(ordered_log, "_SORTED_ROWS", rows)
    chance = random.Random(seed)
    for events in (
        chance.choices(KNOWN, k=30),
        [row | {"id": f"other{i}"} for i, row in enumerate(OTHERS)],
        chance.sample([*KNOWN, *(row | {"id": f"o{i}"} for i, row in enumerate(OTHERS))], 70),
    ):
        whole, streamed = both(runtime, events)
        assert streamed.equals(whole)
        assert whole.num_rows == len(events)


def test_bare_keys_and_times(runtime):
    keys = ("card_id", "to_card", "shop", "at", "amount")
    events = [{name: row[name] for name in keys} for row in OTHERS]
    whole, streamed = both(runtime, events)
    assert streamed.equals(whole)
    asked = [{("when" if name == "at" else name): value for name, value in row.items()} for row in events]
    whole, streamed = both(runtime, asked, timestamp_key="when")
    assert streamed.equals(whole)


def test_ids_alone_are_found_and_one_that_is_not_is_named(runtime):
    events = [{"id": row["id"], "card_id": 1, "to_card": 1, "shop": "a", "amount": 0.0} for row in KNOWN[:5]]
    with pytest.raises(InputError, match="the time of each row"):
        both(runtime, events)
    events = [{"id": row["id"], "at": row["at"]} for row in KNOWN[:5]]
    whole, streamed = both(runtime, events)
    assert streamed.equals(whole)
    with pytest.raises(InputError, match="row 5 is not in the history of 'payments'"):
        features_over_log(
            runtime.store,
            runtime.project.services["features"].features,
            runtime.project.sources["payments"],
            [*events, {"id": "none", "at": KNOWN[0]["at"]}],
        )


def test_the_open_project_is_asked_so(runtime, monkeypatch):
    def refuse(*_, **__):
        pytest.fail("the whole log was read into memory")

    monkeypatch.setattr("penstock.app.requests.history_of", refuse)
    found = features_for_events(runtime.project.services["features"].features, KNOWN[:10])
    whole, _ = both(runtime, KNOWN[:10])
    assert found.to_arrow().combine_chunks().equals(whole)
