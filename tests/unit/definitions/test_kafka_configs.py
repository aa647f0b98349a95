"""What a `KafkaConfig` may say; secrets are refused, and never shown."""

from datetime import timedelta

import pytest

from penstock import KafkaConfig, StreamSource
from penstock.core.errors import DefinitionError
from penstock.types import Field, Timestamp


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"topics": " , "}, "names of topics"),
        ({"topics": "a,a"}, "each once"),
        ({"kafka_bootstrap_servers": ""}, "host:port"),
        ({"value_format": "xml"}, "allowed are json, avro, protobuf"),
        ({"value_format": "avro"}, "schema_registry_url is missing"),
        ({"value_format": "protobuf"}, "needs both"),
        ({"descriptor_file": "a", "message": "b"}, "nothing else may have them"),
        ({"security_protocol": "TLS"}, "allowed are PLAINTEXT"),
        ({"options": {"group.id": "x"}}, "sets itself"),
        ({"options": {"a": 1}}, "dict of texts"),
        ({"options": {"auto.offset.reset": "never"}}, "earliest"),
        ({"watermark_delay_threshold": timedelta(-1)}, "from zero"),
    ],
)
def test_mistakes_fail_where_they_are_written(arguments, message):
    with pytest.raises(DefinitionError, match=message):
        KafkaConfig(**{"kafka_bootstrap_servers": "b:9092", "topics": "t", **arguments})


@pytest.mark.parametrize(
    "name", ["sasl.password", "ssl.key.password", "sasl.oauthbearer.client.secret", "ssl.key.pem"]
)
def test_a_secret_is_refused_and_not_shown(name):
    with pytest.raises(DefinitionError, match="no secret") as found:
        KafkaConfig("b:9092", "t", options={name: "hunter2"})
    assert "hunter2" not in str(found.value)


def test_a_password_in_the_registrys_address_is_refused_and_not_shown():
    with pytest.raises(DefinitionError, match="no secret") as found:
        KafkaConfig("b:9092", "t", value_format="avro", schema_registry_url="https://shop:hunter2@registry")
    assert "hunter2" not in str(found.value)


def test_the_watermark_delay_is_the_lateness():
    def stream(**more):
        config = KafkaConfig("b", "t", watermark_delay_threshold=timedelta(minutes=3))
        return StreamSource("s", config, schema=[Field("at", Timestamp)], **more)

    assert stream().allowed_lateness == timedelta(minutes=3)
    with pytest.raises(DefinitionError, match="one of the two"):
        stream(allowed_lateness=timedelta(minutes=4))


def test_settings_hold_secrets_and_do_not_show_them(tmp_path, monkeypatch):
    from penstock.app.kafka_inputs import client_settings
    from penstock.app.settings import load_settings

    monkeypatch.setenv("PENSTOCK_KAFKA__OPTIONS", '{"sasl.password": "hunter2"}')
    (tmp_path / "penstock.toml").write_text("[kafka]\nbootstrap_servers = 'other:1'\n")
    settings = load_settings(tmp_path)
    assert "hunter2" not in repr(settings)
    client = client_settings(KafkaConfig("b:9092", "t"), settings.kafka)
    assert (client["sasl.password"], client["bootstrap.servers"]) == ("hunter2", "other:1")
