"""kill -9 while a stream and its labels are read from tables that others write to: each row is in the log once, in the right state."""

from __future__ import annotations

import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import psycopg
import pytest

from penstock.app.runtime import Runtime, store_path
from penstock.core.errors import StoreError
from penstock.engine.recovery import catch_up, encode_state
from penstock.stores.reader import ProjectReader

ROWS = 3_000
DEFINITIONS = """
from datetime import timedelta
from penstock import *
from penstock.types import Bool, Field, Float64, Int64, String, Timestamp

card = Entity("card", [Field("card", String)])
payments = StreamSource(
    "payments", PostgresStreamConfig("${{SHOP}}", "{schema}.payments", ["at", "id"], interval=timedelta(milliseconds=20)),
    schema=[Field("id", Int64), Field("card", String), Field("at", Timestamp), Field("amount", Float64)],
    event_id_field="id",
)
labels = LabelSource(
    "labels", of=payments, label=Field("fraud", Bool), known_at="told_at",
    stream_config=PostgresStreamConfig("${{SHOP}}", "{schema}.labels", ["told_at", "id"]),
)
spending = StreamFeatureView("spending", source=payments, entities=[card],
    features=[Aggregate(Field("amount", Float64), "sum", time_window=timedelta(days=1))])
frauds = StreamFeatureView("frauds", source=labels, entities=[card],
    features=[Aggregate(Field("fraud", Bool), "count", time_window=timedelta(days=1))])
service = FeatureService("service", features=[spending, frauds])
"""
TABLES = """
CREATE TABLE payments(id bigserial PRIMARY KEY, card text, at timestamptz NOT NULL DEFAULT now(), amount float8);
CREATE INDEX ON payments(at, id);
CREATE TABLE labels(id bigint, fraud bool, told_at timestamptz DEFAULT now(), PRIMARY KEY (told_at, id));
"""


@pytest.fixture
def project(postgres_home, tmp_path, monkeypatch):
    target = postgres_home.target
    monkeypatch.setenv("SHOP", target.url)
    with psycopg.connect(target.url, autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA "{target.schema}"; SET search_path = "{target.schema}"')
        connection.execute(TABLES)
        fill(connection, ROWS)
    (tmp_path / "penstock.toml").write_text("")
    (tmp_path / "definitions.py").write_text(DEFINITIONS.format(schema=target.schema))
    return tmp_path, target


def fill(connection, count):
    connection.execute(
        "INSERT INTO payments(card, amount) SELECT 'c' || i %% 40, i / 7.0 FROM generate_series(1, %s) i",
        (count,),
    )
    connection.execute(
        "INSERT INTO labels SELECT id, id %% 5 = 0 FROM payments ORDER BY id LIMIT %s", (count,)
    )


class Writing(threading.Thread):
    """Inserts payments from several transactions at a time, which commit in another order than they began."""

    def __init__(self, target):
        super().__init__()
        self.target, self.ended = target, threading.Event()

    def run(self):
        chance = random.Random(7)
        connections = [psycopg.connect(self.target.url) for _ in range(4)]
        for one in connections:
            one.execute(f'SET search_path = "{self.target.schema}"')
            one.commit()
        while not self.ended.is_set():
            chance.shuffle(connections)
            for one in connections:
                with one.cursor() as cursor:
                    cursor.execute("SAVEPOINT a")
                    cursor.execute("INSERT INTO payments(card, amount) VALUES ('late', random())")
            chance.shuffle(connections)
            for one in connections:
                time.sleep(chance.random() / 50)
                one.commit()
        for one in connections:
            one.close()


def start(root, *arguments):
    paths = os.pathsep.join([*sys.path, str(pathlib.Path.cwd())])
    return subprocess.Popen(
        [sys.executable, "-c", "from penstock.cli.main import app; app()", *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": paths, "PENSTOCK_ENGINE__BATCH_ROWS": "50"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def length(root):
    try:
        with ProjectReader.open_reader(store_path(root)) as reader:
            return reader.next_position
    except StoreError:
        return 0  # it is still being made


def kill_once_at_work(root, chance):
    before, process = length(root), start(root, "up", "--port", "0")
    deadline = time.perf_counter() + 60
    while time.perf_counter() < deadline and process.poll() is None and length(root) == before:
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    with suppress(subprocess.TimeoutExpired):
        process.wait(chance.random() * 0.6)
    killed = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return killed and length(root) > before


@pytest.mark.parametrize("count", [2, pytest.param(40, marks=pytest.mark.nightly)])
def test_each_row_is_taken_once(project, count):
    root, target = project
    chance, writing = random.Random(3), Writing(target)
    writing.start()
    try:
        kills = sum(kill_once_at_work(root, chance) for _ in range(count))
    finally:
        writing.ended.set()
        writing.join()
    assert kills > count // 2
    assert start(root, "run").wait(120) == 0
    with psycopg.connect(target.url) as connection:
        wanted = connection.execute(f'SELECT count(*) FROM "{target.schema}".payments').fetchone()[0]
    with Runtime.open(root) as runtime:
        counters, counts = runtime.store.counters(), runtime.store.row_counts()
        assert counts == {"payments": wanted, "labels": ROWS}
        assert (counters["received"], counters.get("duplicate", 0)) == (wanted, 0)
        assert counters["labels_received"] == ROWS
        assert counters["labels_joined"] == ROWS
        assert encode_state(runtime.engine.features) == encode_state(catch_up(runtime.store, runtime.plan))
