"""``penstock worker`` over a real topic: what it refuses before it takes a partition."""

import pytest
from typer.testing import CliRunner

from penstock.cli.main import app

pytest.importorskip("confluent_kafka")
from tests.kafka_topics import new_topic

DEFINITIONS = """
from datetime import timedelta
from penstock import Aggregate, Entity, FeatureService, KafkaConfig, StreamFeatureView, StreamSource
from penstock.types import Field, Float64, String, Timestamp

card, shop, amount = Field("card", String), Field("shop", String), Field("amount", Float64)
payments = StreamSource("payments", KafkaConfig("{address}", "{topic}", key_field="card"),
    schema=[Field("id", String), card, shop, Field("at", Timestamp), amount], event_id_field="id")
totals = [Aggregate(amount, "sum", time_window=timedelta(hours=1))]
by_card = StreamFeatureView("by_card", source=payments, entities=[Entity("card", [card])], features=totals)
by_shop = StreamFeatureView("by_shop", source=payments, entities=[Entity("shop", [shop])], features=totals)
features = FeatureService("features", features=[by_card, by_shop])
"""


def test_views_of_another_key_than_the_topics_are_refused(tmp_path, kafka):
    topic = new_topic(kafka.address, partitions=2)
    (tmp_path / "penstock.toml").write_text('[project]\nname = "shop"\n')
    (tmp_path / "definitions.py").write_text(DEFINITIONS.format(address=kafka.address, topic=topic))
    done = CliRunner().invoke(app, ["worker", "--project", str(tmp_path)])
    assert done.exit_code == 2
    for part in ("'by_shop' by shop", "keyed by 'card', and not so by_shop", "penstock up"):
        assert part in done.stderr
    assert not list((tmp_path / ".penstock").glob("shards/*"))
