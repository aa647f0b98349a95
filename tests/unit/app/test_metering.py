from datetime import timedelta
from textwrap import dedent

import numpy as np
import pytest

from penstock.app import Runtime
from penstock.app.measuring import monitor_of, stored_board
from penstock.app.metering import Meter

HOUR_US = 3_600_000_000
START_US = 1_700_000_000_000_000
DEFINITIONS = dedent("""
    from datetime import timedelta
    from sklearn.linear_model import LogisticRegression
    from penstock import *
    from penstock.types import Bool, Field, Float64, String, Timestamp

    amount = Field("amount", Float64)
    payments = StreamSource("payments", PushConfig(), event_id_field="id",
        schema=[Field("id", String), Field("t", Timestamp), amount])
    charges = LabelSource("charges", of=payments, label=Field("is_fraud", Bool), known_at="reported_at")

    @realtime_feature_view(sources=[RequestSource([amount])], features=[Attribute("amount", Float64)])
    def payment(request):
        return {"amount": request["amount"]}

    service = FeatureService("service", features=[payment])
    day = timedelta(days=1)
    model = Model("model", features=service, label=charges, estimator=LogisticRegression(),
        split=TimeSplit(train=day, delay=day, test=day))
    checkout = Endpoint("checkout", source=payments, model=model,
        policy=Policy("policy", actions={"review": 0.5, "block": 0.9}))
""")


class AmountIsScore:
    version, digest = "amount:1", ""
    feature_names = ("payment.amount",)

    def score(self, vectors):
        return vectors[:, 0].copy()


@pytest.fixture
def runtime(tmp_path):
    (tmp_path / "penstock.toml").write_text('[project]\nname = "metering"\n')
    (tmp_path / "definitions.py").write_text(DEFINITIONS)
    with Runtime.open(tmp_path) as opened:
        opened.routes.serve("checkout", AmountIsScore())
        yield opened


def send(runtime, meter, source, rows, **options):
    processed = runtime.process([(source, runtime.engine.decode(source, rows))], **options)
    meter.watch(processed, handed_in_s=0.0)


def payments(scores, start=0):
    return [
        {"id": f"p{start + i}", "t": START_US + (start + i) * HOUR_US, "amount": float(score)}
        for i, score in enumerate(scores)
    ]


def labels(numbers, values, after=timedelta(days=7)):
    known = START_US + after // timedelta(microseconds=1)
    return [
        {"id": f"p{number}", "is_fraud": bool(value), "reported_at": known + number}
        for number, value in zip(numbers, values, strict=True)
    ]


def test_labels_find_the_scores_of_their_events(runtime):
    meter = Meter(runtime, "checkout")
    send(runtime, meter, "payments", payments([0.1, 0.6, 0.95, 0.2]))
    send(runtime, meter, "payments", payments([0.99, 0.3], start=4))
    send(runtime, meter, "charges", labels([4, 0, 1], [True, False, False]))
    meter.finish()
    live, quality = meter.summary()
    assert (live.received, live.scored, live.labels, live.alerts) == (6, 6, 3, 3)
    assert (quality.labelled, quality.positives, quality.pending) == (3, 1, 3)
    review, block = quality.points
    assert (review.true_positives, review.false_positives) == (1, 1)
    assert (block.true_positives, block.false_positives) == (1, 0)
    assert quality.roc_auc == 1.0


def test_a_correction_replaces_and_a_repetition_changes_nothing(runtime):
    meter = Meter(runtime, "checkout")
    send(runtime, meter, "payments", payments(np.linspace(0.05, 0.98, 20)))
    send(runtime, meter, "charges", labels(range(15), [i % 3 == 0 for i in range(15)]))
    meter.finish()
    before = meter.summary()[1]
    send(runtime, meter, "charges", labels([0, 1], [True, False]))
    meter.finish()
    assert meter.summary()[1] == before
    later = timedelta(days=8)
    send(runtime, meter, "charges", labels([0, 1, 19], [False, False, True], after=later))
    meter.finish()
    after = meter.summary()[1]
    assert (after.labelled, after.positives) == (16, before.positives)  # one less, one more
    board = stored_board(runtime.store, runtime.plan, monitor_of(runtime.project))
    assert after == board.total().summary()


def test_a_restart_goes_on_with_the_same_figures(runtime):
    meter = Meter(runtime, "checkout")
    send(runtime, meter, "payments", payments([0.1, 0.6, 0.95, 0.2]))
    send(runtime, meter, "charges", labels([0, 2], [False, True]))
    meter.finish()
    assert Meter(runtime, "checkout").summary()[1] == meter.summary()[1]


def test_history_is_logged_and_not_decided(runtime):
    meter = Meter(runtime, "checkout")
    send(runtime, meter, "payments", payments([0.1, 0.6]), decide=False)
    send(runtime, meter, "payments", payments([0.7], start=2))
    send(runtime, meter, "charges", labels([0, 2], [True, True]))
    meter.finish()
    live, quality = meter.summary()
    assert (live.received, live.logged, live.scored) == (3, 2, 1)
    assert (quality.labelled, quality.positives, quality.pending) == (1, 1, 0)
