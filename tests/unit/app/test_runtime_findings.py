"""The engine under odd but allowed circumstances: two streams at once, functions that fail, schemas that grow."""

from datetime import timedelta

import pytest

from penstock import (
    Aggregate,
    Endpoint,
    Entity,
    FeatureService,
    LabelSource,
    Model,
    Policy,
    PushConfig,
    StreamFeatureView,
    StreamSource,
    TimeSplit,
)
from penstock.app import Runtime
from penstock.app.settings import Settings
from penstock.core.errors import InputError, PlanError
from penstock.definitions.project import Project
from penstock.engine.audit import audit
from penstock.testing.clock import ManualClock
from penstock.types import Bool, Field, Float64, String, Timestamp

DAY = timedelta(days=1)
NOW_US = 1_700_000_000_000_000
CARD, AMOUNT = Field("card", String), Field("amount", Float64)
FIELDS = [Field("id", String), CARD, Field("at", Timestamp), AMOUNT]


class Estimator:
    """Never fitted here."""

    def fit(self):
        return self

    def predict(self):
        return []

    def get_params(self):
        return {}


def stream(name="payments", fields=FIELDS):
    return StreamSource(name, PushConfig(), schema=fields, event_id_field="id")


def project(root, source, *, function=None, others=()):
    card = Entity("card", [CARD])
    views = [
        StreamFeatureView(
            f"by_card_{one.name}",
            source=one,
            entities=[card],
            features=[Aggregate(AMOUNT, f, time_window=DAY) for f in ("count", "sum")],
            function=function,
        )
        for one in (source, *others)
    ]
    labels = LabelSource("labels", of=source, label=Field("bad", Bool), known_at="known_at")
    split = TimeSplit(train=DAY, delay=DAY, test=DAY)
    model = Model(
        "m", features=FeatureService("s", features=views), label=labels, estimator=Estimator(), split=split
    )
    endpoint = Endpoint("e", source=source, model=model, policy=Policy("p", actions={"block": 0.9}))
    return Project(root, "p", {}, endpoints={"e": endpoint}, models={"m": model})


def opened(root, source, **more):
    rebuild = more.pop("rebuild", False)
    return Runtime.open(
        root,
        project=project(root, source, **more),
        settings=Settings(),
        clock=ManualClock(NOW_US),
        rebuild=rebuild,
    )


def event(number, *, amount=1.0, card="c", **more):
    return {"id": f"e{number}", "card": card, "at": NOW_US - 10**9 + number, "amount": amount, **more}


def test_two_streams_with_ids_are_merged_by_time(tmp_path):
    payments, logins = stream(), stream("logins")
    with opened(tmp_path, payments, others=[logins]) as runtime:
        decode = runtime.engine.decode
        inputs = [("payments", [event(0), event(2), event(4)]), ("logins", [event(1), event(3)])]
        runtime.process([(name, decode(name, rows)) for name, rows in inputs], by_time=True).wait()
        again = runtime.ingest("logins", [event(3)])
        assert again[0].status == "duplicate"
        assert again[0].position == 3
        found = audit(runtime.store, runtime.plan)
        assert (found.vectors, found.differing, found.missing) == (3, 0, 0)


def test_a_source_may_come_once_in_a_micro_batch(tmp_path):
    with opened(tmp_path, stream()) as runtime:
        decoded = runtime.engine.decode("payments", [event(0)])
        with pytest.raises(InputError, match="allowed is each once"):
            runtime.process([("payments", decoded), ("payments", decoded)])
        assert runtime.ingest("payments", [event(1)])[0].status == "scored"


def refuse_negative(row):
    if (row["amount"] < 0).any():
        raise ValueError("negative")
    return dict(row)


def test_a_repetition_of_a_refused_event_is_no_repetition(tmp_path):
    with opened(tmp_path, stream(), function=refuse_negative) as runtime:
        answers = runtime.ingest("payments", [event(0, amount=-1.0), event(0, amount=2.0), event(1)])
        assert [a.status for a in answers] == ["rejected", "scored", "scored"]
        assert answers[0].reason == "view_failed"
        counters = runtime.store.counters()
        assert (counters["received"], counters["scored"], counters["rejected"]) == (3, 2, 1)


def one_row_only(row):
    if row["amount"] > 100:  # works on one row, not on many
        return {**row, "amount": row["amount"] / 2}
    return dict(row)


def test_a_function_that_takes_one_row_only_is_replayed_row_by_row(tmp_path):
    with opened(tmp_path, stream(), function=one_row_only) as runtime:
        for number in range(4):
            runtime.ingest("payments", [event(number, amount=80.0 * number)])
        assert audit(runtime.store, runtime.plan).clean
    with opened(tmp_path, stream(), function=one_row_only, rebuild=True) as runtime:
        assert runtime.engine.position == 4


def test_a_function_that_fails_on_what_was_accepted_leaves_the_row_out(tmp_path):
    with opened(tmp_path, stream()) as runtime:
        runtime.ingest("payments", [event(0, amount=-5.0), event(1)])
    with opened(tmp_path, stream(), function=refuse_negative, rebuild=True) as runtime:
        (answer,) = runtime.ingest("payments", [event(2)], with_features=True)
        assert answer.features["by_card_payments.amount_count_1d_continuous"] == 2.0  # not three


def test_an_optional_field_may_be_added_to_a_log(tmp_path):
    with opened(tmp_path, stream()) as runtime:
        runtime.ingest("payments", [event(0)])
    wider = stream(fields=[*FIELDS, Field("country", String, optional=True)])
    with opened(tmp_path, wider, rebuild=True) as runtime:
        assert runtime.ingest("payments", [event(0)])[0].status == "duplicate"
        assert runtime.ingest("payments", [event(1, country="CH")])[0].status == "scored"
        assert audit(runtime.store, runtime.plan).differing == 0


def test_a_required_field_may_not(tmp_path):
    with opened(tmp_path, stream()) as runtime:
        runtime.ingest("payments", [event(0)])
    wider = stream(fields=[*FIELDS, Field("country", String)])
    with pytest.raises(PlanError, match=r"country String added, required.*optional=True"):
        opened(tmp_path, wider, rebuild=True)


def test_labels_that_wait_are_bounded_and_counted(tmp_path):
    root = tmp_path
    settings = Settings()
    settings.engine.max_pending_labels = 3
    with Runtime.open(
        root, project=project(root, stream()), settings=settings, clock=ManualClock(NOW_US)
    ) as runtime:
        for number in range(5):
            runtime.ingest("labels", [{"id": f"e{number}", "bad": True, "known_at": NOW_US}])
        counters = runtime.store.counters()
        assert (counters["labels_pending"], counters["labels_dropped"]) == (3, 2)
        assert [label.event_id for label in runtime.store.pending_labels()] == ["e2", "e3", "e4"]
        runtime.ingest("payments", [event(1), event(3)])
        assert runtime.store.counters()["labels_pending"] == 2
        assert runtime.store.counters()["labels_joined"] == 1
