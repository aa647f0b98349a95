"""What a `PostgresStreamConfig` may say."""

from datetime import timedelta

import pytest

from penstock import LabelSource, PostgresStreamConfig, StreamSource
from penstock.core.errors import DefinitionError
from penstock.types import Bool, Field, String, Timestamp


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"url": "mysql://localhost/a"}, "postgresql://user@host/database"),
        ({"table": "payments"}, r"allowed is schema\.table"),
        ({"cursor": []}, "columns of the table"),
        ({"cursor": ["id", "id"]}, "each once"),
        ({"cursor": 3}, "columns of the table"),
        ({"look_back": -1}, "look_back is -1"),
        ({"look_back": True}, "look_back is True"),
        ({"look_back": 1.5}, "look_back is 1.5"),
        ({"interval": timedelta(0)}, "from 10 milliseconds"),
        ({"interval": 1}, "interval is 1"),
    ],
)
def test_mistakes_fail_where_they_are_written(arguments, message):
    with pytest.raises(DefinitionError, match=message):
        PostgresStreamConfig(**{"url": "${SHOP}", "table": "public.payments", "cursor": "id", **arguments})


def test_streams_and_labels_may_lie_in_tables():
    config = PostgresStreamConfig("${SHOP}", "public.payments", "id", look_back=5)
    assert (config.cursor, config.look_back) == (("id",), 5)
    schema = [Field("id", String), Field("at", Timestamp)]
    payments = StreamSource("payments", config, schema=schema, event_id_field="id")
    more = {"of": payments, "label": Field("fraud", Bool), "known_at": "told_at"}
    assert LabelSource("labels", stream_config=config, **more).stream_config is config
    with pytest.raises(DefinitionError, match="PostgresStreamConfig"):
        StreamSource("payments", "public.payments", schema=schema)
