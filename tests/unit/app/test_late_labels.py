"""Labels that come too late to enter a label view are joined and counted, and enter nothing."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from penstock import (
    Aggregate,
    Entity,
    FeatureService,
    LabelSource,
    PushConfig,
    StreamFeatureView,
    StreamSource,
)
from penstock.app import Runtime
from penstock.app.settings import Settings
from penstock.definitions.project import Project
from penstock.types import Bool, Field, String, Timestamp

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
shop = Entity("shop", [Field("shop_id", String)])
payments = StreamSource(
    "payments",
    PushConfig(),
    schema=[Field("id", String), Field("shop_id", String), Field("at", Timestamp)],
    event_id_field="id",
)
frauds = LabelSource(
    "frauds", of=payments, label=Field("fraud", Bool), known_at="known_at", allowed_lateness=HOUR
)
risk = StreamFeatureView(
    "risk",
    source=frauds,
    entities=[shop],
    features=[Aggregate(Field("fraud", Bool), "count", time_window=10 * HOUR, name="known")],
)
service = FeatureService("service", features=[risk])


def test_a_label_that_is_too_late_for_a_view_is_counted(tmp_path):
    definitions = {
        "sources": {"payments": payments},
        "label_sources": {"frauds": frauds},
        "services": {"service": service},
    }
    project = Project(Path(tmp_path), "p", {}, **definitions)
    with Runtime.open(tmp_path, project=project, settings=Settings()) as runtime:
        runtime.ingest("payments", [{"id": str(i), "shop_id": "s", "at": START} for i in range(4)])
        for number, hours in enumerate((5, 4.5, 3, 2)):
            known = START + hours * HOUR
            runtime.ingest("frauds", [{"id": str(number), "fraud": True, "known_at": known}])
        counters = runtime.store.counters()
        assert (counters["labels_joined"], counters["labels_too_late"]) == (4, 2)
        state = runtime.engine.features.views[0]
        assert state.stats.rows == 2
