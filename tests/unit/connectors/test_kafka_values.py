"""JSON, Avro and Protobuf messages through the contract: one verdict each, whatever their bytes."""

import io
import json
import random
import struct
from datetime import UTC, datetime

import pytest

from penstock import KafkaConfig
from penstock.connectors.kafka_values import decode
from penstock.core.errors import InputError, UnreachableError
from penstock.core.types import Field
from penstock.engine.contract import Contract
from penstock.plan.nodes import SourceNode
from penstock.types import Float64, String, Timestamp

fastavro = pytest.importorskip("fastavro")
pytest.importorskip("google.protobuf")

FIELDS = (
    Field("id", String),
    Field("at", Timestamp),
    Field("amount", Float64),
    Field("note", String, optional=True),
)
CONTRACT = Contract(SourceNode("payments", FIELDS, "at", "id", 0, 0))
AT = datetime(2026, 1, 1, tzinfo=UTC)
AT_US = int(AT.timestamp() * 1_000_000)


def avro(*fields):
    named = [{"name": name, "type": kind} for name, kind in fields]
    return {"type": "record", "name": "Payment", "fields": named}


MICROS, MILLIS = ({"type": "long", "logicalType": f"timestamp-{unit}"} for unit in ("micros", "millis"))
SCHEMAS = {
    1: avro(("id", "string"), ("at", MICROS), ("amount", "double")),
    2: avro(
        ("new", "string"), ("id", "string"), ("at", MILLIS), ("amount", "float"), ("note", ["null", "string"])
    ),
    3: avro(("id", "string"), ("at", MICROS), ("amount", "string")),
    4: avro(("id", "string"), ("at", MICROS)),
    5: {"type": "array", "items": "string"},
}


def fetch(number):
    if number == 9:
        raise UnreachableError("away")
    return json.dumps(SCHEMAS[number])


def written(number, record):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, SCHEMAS[number], record)
    return struct.pack(">bI", 0, number) + out.getvalue()


def payment(i=0, **more):
    return {"id": f"e{i}", "at": AT, "amount": 1.5, **more}


def through_avro(values):
    from penstock.connectors.kafka_avro import AvroValues

    return decode(CONTRACT, AvroValues(fetch), values)


def test_avro_of_two_schemas_side_by_side():
    decoded = through_avro(
        [written(1, payment(0)), written(2, payment(1, new="x", note="n")), written(1, payment(2))]
    )
    assert decoded.refused == ()
    assert decoded.columns["at"].values.tolist() == [AT_US] * 3
    assert decoded.columns["amount"].values.tolist() == [1.5] * 3
    assert decoded.columns["note"].valid.tolist() == [False, True, False]


def test_what_is_no_such_avro_message_is_refused_with_its_bytes():
    good = written(1, payment())
    bad = {
        b"": "undecodable",
        b"{}": "undecodable",
        good[:-3]: "undecodable",
        good + b"x": "undecodable",
        b"\1" + good[1:]: "undecodable",
        struct.pack(">bI", 0, 77) + good[5:]: "undecodable",
        written(3, {**payment(), "amount": "much"}): "wrong_type",
        written(4, {"id": "e", "at": AT}): "missing_field",
        written(5, ["a"]): "not_an_object",
        written(1, payment(amount=float("nan"))): "not_finite",
    }
    values = [one for value in bad for one in (value, good)]
    decoded = through_avro([*values, None])
    assert [one.reason for one in decoded.refused] == [*bad.values(), "undecodable"]
    assert decoded.rows.tolist() == [2 * i + 1 for i in range(len(bad))]
    assert decoded.refused[2].payload == good[:-3]
    assert decoded.received == len(values) + 1


def test_random_bytes_never_raise():
    chance = random.Random(1)
    good = written(1, payment())
    values = []
    for _ in range(3000):
        value = bytearray(good)
        for _ in range(chance.randrange(1, 4)):
            value[chance.randrange(5, len(value))] = chance.randrange(256)
        values.append(
            bytes(value[: chance.randrange(len(value) + 1)]) if chance.random() < 0.3 else bytes(value)
        )
    decoded = through_avro(values)
    assert len(decoded.rows) + len(decoded.refused) == 3000
    assert {one.reason for one in decoded.refused} <= {
        "undecodable",
        "time_out_of_range",
        "not_finite",
        "invalid_unicode",
        "wrong_type",
    }


def test_a_registry_that_is_away_is_no_fault_of_the_message():
    with pytest.raises(UnreachableError):
        through_avro([struct.pack(">bI", 0, 9) + b"x"])


@pytest.fixture
def protobuf(tmp_path):
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

    def make(framed):
        file = descriptor_pb2.FileDescriptorProto(name="p.proto", package="shop", syntax="proto3")
        file.dependency.append("google/protobuf/timestamp.proto")
        message = file.message_type.add(name="Payment")
        kinds = descriptor_pb2.FieldDescriptorProto
        message.field.add(name="id", number=1, type=kinds.TYPE_STRING, label=1)
        message.field.add(
            name="at", number=2, type=kinds.TYPE_MESSAGE, type_name=".google.protobuf.Timestamp", label=1
        )
        message.field.add(name="amount", number=3, type=kinds.TYPE_DOUBLE, label=1)
        times = descriptor_pb2.FileDescriptorProto()
        timestamp_pb2.DESCRIPTOR.CopyToProto(times)
        (tmp_path / "p.desc").write_bytes(
            descriptor_pb2.FileDescriptorSet(file=[times, file]).SerializeToString()
        )
        pool = descriptor_pool.DescriptorPool()
        pool.Add(times)
        pool.Add(file)
        config = KafkaConfig(
            "b:9092",
            "payments",
            value_format="protobuf",
            descriptor_file="p.desc",
            message="shop.Payment",
            schema_registry_url="http://r" if framed else None,
        )
        return config, message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Payment"))

    return make


@pytest.mark.parametrize("framed", [False, True])
def test_protobuf(protobuf, tmp_path, framed):
    from penstock.connectors.kafka_values import values_of

    config, message_class = protobuf(framed)
    message = message_class(id="e1", amount=2.5)
    message.at.FromDatetime(AT)
    frame = b"\0\0\0\0\1\0" if framed else b""
    good = frame + message.SerializeToString()
    unknown = good + b"\x52\x01x"  # field 10, which the descriptor does not know
    without_time = frame + message_class(id="e2").SerializeToString()
    decoded = decode(CONTRACT, values_of(config, tmp_path, {}), [good, unknown, b"", without_time, good[:-4]])
    assert decoded.rows.tolist() == [0, 1]
    assert decoded.columns["at"].values.tolist() == [AT_US] * 2
    assert [one.reason for one in decoded.refused] == ["undecodable", "null_field", "undecodable"]


def test_a_descriptor_that_is_not_there(tmp_path):
    from penstock.connectors.kafka_values import values_of

    config = KafkaConfig("b", "t", value_format="protobuf", descriptor_file="x.desc", message="a.B")
    with pytest.raises(InputError, match="protoc"):
        values_of(config, tmp_path, {})


def test_a_schema_that_does_not_fit_is_told_before_it_is_in_force(monkeypatch, tmp_path):
    from penstock.connectors import kafka_schemas

    config = KafkaConfig("b", "t", value_format="avro", schema_registry_url="http://r")

    def problems(number):
        text = None if number is None else json.dumps(SCHEMAS[number])
        monkeypatch.setattr(kafka_schemas, "_newest", lambda *_: text)
        return kafka_schemas.problems_of(config, FIELDS, tmp_path, {"url": "http://r"})

    assert problems(1) == problems(2) == []
    assert "field 'amount' is string" in problems(3)[0]
    assert "has no field 'amount'" in problems(4)[0]
    assert "no schema under t-value" in problems(None)[0]
