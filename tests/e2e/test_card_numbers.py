"""No card number is kept: ten thousand of them through every way in, and none in a file or an answer afterwards."""

import csv
import io
import json
import random
import re
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from penstock.app import Runtime
from penstock.app.forgetting import forget
from penstock.app.runtime import card_tokens_of, open_reader
from penstock.cli.main import app
from penstock.core.card_issuers import ISSUERS, prefixes
from penstock.testing.clock import ManualClock
from penstock.testing.reference_cards import is_card_number, with_tokens

START = 1_760_000_000_000_000
CLOCK = ManualClock(START + 10**12)
DEFINITIONS = """
from datetime import timedelta
from penstock import *
from penstock.types import Bool, Field, Float64, Int64, String, Timestamp

card = Entity("card", join_keys=[Field("card", String)])
payments = StreamSource("payments", PushConfig(), event_id_field="id", card_numbers="POLICY", schema=[
    Field("id", String), Field("card", String), Field("note", String, optional=True), Field("number", Int64, optional=True),
    Field("amount", Float64), Field("at", Timestamp)])
frauds = LabelSource("frauds", of=payments, label=Field("fraud", Bool), known_at="known_at")
holders = BatchSource("holders", FileConfig("holders.parquet", "parquet"), card_numbers="POLICY", schema=[
    Field("card", String), Field("since", Timestamp), Field("age", Int64)])
spending = StreamFeatureView("spending", source=payments, entities=[card],
    features=[Aggregate(Field("amount", Float64), "sum", time_window=timedelta(days=30), name="sum")])
holder = BatchFeatureView("holder", sources=[holders], entities=[card], features=[Attribute("age", Int64)])
fraudulent = StreamFeatureView("fraudulent", source=frauds, entities=[card],
    features=[Aggregate(Field("fraud", Bool), "sum", time_window=timedelta(days=30), name="sum")])
features = FeatureService("features", features=[spending, holder, fraudulent[["sum"]]])
"""


def card_numbers(seed):
    """Seeded numbers of all issuers, each with Luhn's check digit, all different."""
    draw, seen = random.Random(seed), set()
    while True:
        _, starts, lengths = draw.choice(ISSUERS)
        first = draw.choice(draw.choice(prefixes(starts)))
        body = f"{first}" + "".join(draw.choices("0123456789", k=draw.choice(lengths) - 5))
        number = next(n for d in "0123456789" if is_card_number(n := body + d))
        if number not in seen:
            seen.add(number)
            yield number


def grouped(number, separator):
    sizes = {14: (4, 6, 4), 15: (4, 6, 5), 16: (4, 4, 4, 4), 19: (4, 4, 4, 4, 3)}.get(
        len(number), (len(number),)
    )
    parts, at = [], 0
    for size in sizes:
        parts.append(number[at : at + size])
        at += size
    return separator.join(parts)


def payment(i, number):
    """An event with a number somewhere; one in ten has it where the schema does not look."""
    event = {"id": f"e{i}", "card": f"c{i % 7}", "note": None, "amount": 1.5, "at": START + i * 1000}
    places = [
        {"card": number},
        {"card": grouped(number, " ")},
        {"card": grouped(number, "-")},
        {"id": number},
        {"note": f"paid with {number}, thanks"},
        {"note": f"%B{number}^DOE/JOHN^2512"},
        {"number": int(number) if len(number) < 19 else -int(number[:18])},
        {"amount": float(number) if len(number) < 16 else f"{number}"},
        {"other": {"deep": [grouped(number, " "), number]}},
        {"at": "never", "other": number, number: number},
    ]
    return event | places[i % len(places)]


def project(folder, policy):
    folder.mkdir()
    (folder / "definitions.py").write_text(DEFINITIONS.replace("POLICY", policy), "utf-8")
    (folder / "penstock.toml").write_text(
        '[project]\nname = "shop"\ndefinitions = ["definitions.py"]\n', "utf-8"
    )
    return folder


def as_csv(events):
    names = ["id", "card", "note", "number", "amount", "at", "other"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([event.get(name) for name in names] for event in events)
    return text.getvalue()


def as_parquet(events, path):
    columns = {name: [event.get(name) for event in events] for name in ("id", "card", "note", "amount", "at")}
    columns["amount"] = [value if isinstance(value, float) else None for value in columns["amount"]]
    columns["at"] = [value if isinstance(value, int) else None for value in columns["at"]]
    columns["other"] = [json.dumps(event.get("other")) for event in events]
    pq.write_table(pa.table(columns), path)


def send(folder, numbers):
    """All numbers through all ways; every answer and output as text."""
    said = []
    parts = [[payment(i, number) for i, number in enumerate(numbers)][k::5] for k in range(5)]
    with Runtime.open(folder, clock=CLOCK) as runtime:
        said += [
            repr(runtime.ingest("payments", parts[0][i : i + 50], with_features=True))
            for i in range(0, len(parts[0]), 50)
        ]
        said += [repr(runtime.ingest("payments", one)) for one in ([event] for event in parts[0][::40])]
        said.append(
            repr(runtime.ingest("payments", b"\n".join(json.dumps(event).encode() for event in parts[1])))
        )
        labels = [{"id": number, "fraud": True, "known_at": START} for number in numbers]
        said.append(repr(runtime.ingest("frauds", labels)))
    (folder / "in.csv").write_text(as_csv(parts[2]))
    (folder / "in.ndjson").write_text("\n".join(json.dumps(event) for event in parts[3]))
    as_parquet(parts[4], folder / "in.parquet")
    pq.write_table(
        pa.table({"card": numbers, "since": [START] * len(numbers), "age": [7] * len(numbers)}),
        folder / "holders.parquet",
    )
    for name in ("in.csv", "in.ndjson", "in.parquet"):
        said.append(run(folder, "run", f"payments={folder / name}", "--json"))
        said.append(run(folder, "score", "payments", str(folder / name), "--dry-run", allowed=(0, 1)))
    said.append(run(folder, "score", "payments", json.dumps(payment(0, numbers[0]))))
    said += [
        run(folder, *words)
        for words in (["status", "--json"], ["status"], ["catalog", "list"], ["contracts"])
    ]
    return said


def run(folder, *words, allowed=(0,)):
    result = CliRunner().invoke(app, [*words, "--project", str(folder)])
    assert result.exit_code in allowed, (words, result.output, result.exception)
    return result.output


RUN = re.compile(rb"[0-9](?:[ -]?[0-9]){13,}")


def found_in(data, numbers):
    """The numbers that stand in some bytes, grouped or not."""
    wanted = {number.encode() for number in numbers}
    digits = (re.sub(rb"[ -]", b"", match) for match in RUN.findall(data))
    return [
        run
        for run in digits
        for size in range(14, 20)
        for i in range(len(run) - size + 1)
        if run[i : i + size] in wanted
    ]


@pytest.mark.parametrize("policy", ["refuse", "tokenise"])
def test_none_of_ten_thousand_is_kept_or_answered(tmp_path, policy, caplog):
    numbers = list(islice(card_numbers(15), 10_000))
    folder = project(tmp_path / "shop", policy)
    said = send(folder, numbers)
    assert found_in("\n".join([*said, caplog.text]).encode(), numbers) == []
    files = [path for path in (folder / ".penstock").rglob("*") if path.is_file()]
    assert len(files) > 5
    assert {path.name: hits for path in files if (hits := found_in(path.read_bytes(), numbers))} == {}
    assert {path.name: n for path in files for n in numbers[:500] if n.encode() in path.read_bytes()} == {}
    with open_reader(folder) as store:
        rows = store.row_counts()
        letters = store.dead_letters(100_000)
    assert sum(letter.reason == "card_number" for letter in letters) > (6000 if policy == "refuse" else 900)
    assert rows["payments"] > (900 if policy == "refuse" else 6000)


def test_the_search_finds_what_is_kept(tmp_path):
    """The same, kept: or a green test would say nothing."""
    numbers = list(islice(card_numbers(15), 200))
    folder = project(tmp_path / "shop", "keep")
    send(folder, numbers)
    kept = b"".join(path.read_bytes() for path in (folder / ".penstock").rglob("*") if path.is_file())
    assert len(set(found_in(kept, numbers))) > 150


def test_features_by_card_work_with_tokens_and_a_card_can_be_forgotten(tmp_path):
    folder = project(tmp_path / "shop", "tokenise")
    number, other = islice(card_numbers(3), 2)
    pq.write_table(
        pa.table({"card": [number], "since": [START - 10**9], "age": [41]}), folder / "holders.parquet"
    )
    assert "1" in run(folder, "run", "--json")
    events = [
        {"id": f"e{i}", "card": grouped(number, sep), "amount": 2.0, "at": START + i}
        for i, sep in enumerate((" ", "-", "", ""))
    ]
    with Runtime.open(folder, clock=CLOCK) as runtime:
        answers = runtime.ingest(
            "payments", [*events, {**events[0], "id": "o", "card": other}], with_features=True
        )
        assert [a.status for a in answers] == ["logged"] * 5
        token = card_tokens_of(folder).of(number)
        assert with_tokens(f"x {number}", card_tokens_of(folder).of) == f"x {token}"
        found = runtime.online.read("features", {"card": number}).to_dict()
        assert found == runtime.online.read("features", {"card": token}).to_dict()
        assert found == {"spending.sum": 8.0, "holder.age": 41, "fraudulent.sum": 0.0}
        asked = runtime.project.services["features"].get_features_for_events(
            pa.table({"card": [number], "at": pa.array([START + 10], pa.timestamp("us", "UTC"))}),
            timestamp_key="at",
        )
        row = asked.to_arrow().to_pylist()[0]
        assert (row["spending__sum"], row["card"]) == (8.0, token)
    assert (folder / ".penstock/card_tokens.key").stat().st_mode & 0o777 == 0o600
    done = forget(folder, "card", [grouped(number, " ")], clock=CLOCK)
    assert done.events == 5
    kept = b"".join(path.read_bytes() for path in (folder / ".penstock").rglob("*") if path.is_file())
    assert token.encode() not in kept
    with Runtime.open(folder, clock=CLOCK) as runtime:
        assert runtime.online.read("features", {"card": number}).to_dict()["spending.sum"] == 0.0
        assert runtime.online.read("features", {"card": other}).to_dict()["spending.sum"] == 2.0
