"""A project with a class of its own, a sketch and a secondary key: decided, refused, read, replayed, explained, audited."""

import pytest

from penstock.app.explaining import explain_event
from penstock.core.time import from_us
from tests.laws.fold_views import Rounding
from tests.unit.app.offline_project import DEFINITIONS, MINUTE, START, open_runtime, project, steps

OWN = """
from tests.laws.fold_views import Picky
from tests.unit.app.test_user_aggregations import Refusing
from penstock.aggregation_functions import approx_count_distinct
seen = StreamFeatureView("seen", source=tx, entities=[card], features=[
    Aggregate(amount, Refusing(), time_window=hour), Aggregate(amount, Picky(), time_window=hour),
    Aggregate(Field("note", String), approx_count_distinct(), time_window=hour)])
by_shop = StreamFeatureView("by_shop", source=tx, entities=[card], aggregation_secondary_key="shop_id",
    features=[Aggregate(amount, "sum", time_window=hour)])
own = FeatureService("own", features=[seen, risk])
both = FeatureService("both", features=[seen, by_shop])
"""


class Refusing(Rounding):
    name = "refusing"

    def add(self, state, value):
        return state + 1 / (value - 13)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = project(tmp_path_factory.mktemp("own") / "p")
    text = DEFINITIONS.replace('model = Model("m", features=numbers', OWN + 'model = Model("m", features=own')
    (made / "definitions.py").write_text(text, "utf-8")
    return made


@pytest.fixture(scope="module")
def runtime(folder):
    with open_runtime(folder) as opened:
        for source, events in steps(5, count=6):
            opened.ingest(source, events)
        yield opened


def event(number, amount, shop=1):
    return {
        "id": f"own{number}",
        "card_id": "own",
        "shop_id": shop,
        "at": START + 9_000 * MINUTE + number,
        "amount": amount,
        "small": 1.0,
        "abroad": False,
    }


def test_the_whole_way(runtime, folder):
    given = [event(0, 1.0), event(1, 13.0), event(2, 3.0, shop=0), event(3, 5.0), event(4, 2.0, shop=0)]
    answers = runtime.ingest("tx", given)
    assert "aggregation refusing: it failed on the value 13.0 with ZeroDivisionError" in str(answers[1])
    service = runtime.project.services["both"]
    table = service.get_features_for_events().to_arrow()
    rows = [row for row in table.to_pylist() if str(row["id"]).startswith("own")]
    assert [row["by_shop__shop_id_keys_1h"] for row in rows] == [[1], [0, 1], [0, 1], [0, 1]]
    assert [row["by_shop__amount_sum_1h_continuous"] for row in rows] == [
        [1.0],
        [3.0, 1.0],
        [3.0, 6.0],
        [5.0, 6.0],
    ]
    assert [row["seen__amount_picky_1h_continuous"] for row in rows] == [1.0, 3.0, None, None]
    assert ["degraded" in answers[at].flags for at in (0, 2, 3, 4)] == [False, False, True, True]
    again = explain_event(folder, "own2")
    assert again.differing == 0


def test_reads_by_key_are_what_a_training_set_says(runtime):
    found = runtime.project.views["by_shop"].get_online_features({"card_id": "a"})
    events = {"card_id": ["a"], "at": [found.at]}
    view = runtime.project.views["by_shop"]
    (row,) = view.get_features_for_events(events).to_arrow().to_pylist()
    assert {name.replace(".", "__"): value for name, value in found.to_dict().items()} == {
        name: value for name, value in row.items() if "__" in name
    }


def test_a_training_set_in_event_time_order_holds_the_same_functions(runtime):
    service = runtime.project.services["both"]
    assert service.get_features_for_events(as_of="corrected").to_arrow().num_rows > 50
    made = runtime.project.views["seen"].get_features_in_range(from_us(START), from_us(START + 1000 * MINUTE))
    assert made.to_arrow().num_rows > 20
