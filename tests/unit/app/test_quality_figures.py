"""Quality for `/metrics`: what `penstock metrics` says of the shortest window, made by a process of its own while somebody asks."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

import pytest
from prometheus_client.parser import text_string_to_metric_families

from penstock.app.measuring import monitor_of, stored_board
from penstock.app.metering import Meter
from penstock.app.observing import Observing
from penstock.app.quality_beside import LEAST_PAUSE_S, WANTED_S, QualityBeside
from penstock.app.quality_figures import make, read_quality
from penstock.monitoring.board import ALL, Group
from penstock.serving.metric_catalog import METRICS
from penstock.serving.metric_readings import MetricReader
from penstock.serving.prometheus import Exposition
from tests.unit.app import watched
from tests.unit.app.test_measuring import feed


@pytest.fixture
def folder(tmp_path):
    """Decisions of two versions, with labels that come late, twice, and corrected."""
    root = watched.write(tmp_path)
    for number in (1, 2):
        with watched.open_watched(root, version=f"amount:{number}") as runtime:
            feed(runtime, Meter(runtime, "checkout"), first=300 * (number - 1), seed=number)
    return root


def test_the_figures_are_those_of_the_metrics_of_the_shortest_window(folder):
    make(folder, clock=watched.CLOCK)
    (found,) = read_quality(folder)
    with watched.open_watched(folder, version="amount:2") as runtime:
        monitor = monitor_of(runtime.project)
        board = stored_board(runtime.store, runtime.plan, monitor)
    everything = {(one.arm, one.version): one for one in found.groups}
    assert set(everything) == {("", ""), ("champion", "amount:1"), ("champion", "amount:2")} or set(
        everything
    ) == {
        ("", ""),
        ("champion", "amount:2"),
    }
    for who, group in ((("", ""), ALL), (("champion", "amount:2"), Group("version", "amount:2"))):
        window, *_, young = board.windows(group)
        assert found.end_us == window.end_us
        one, quality = everything[who], window.quality
        assert one.states["labelled"] == quality.labelled > 20
        assert one.states["positive"] == quality.positives
        assert one.states["pending"] == quality.pending
        assert one.states["young"] == young.quality.labelled + young.quality.pending
        assert one.figures["average_precision"] == quality.average_precision
        assert one.figures["log_loss"] == quality.log_loss
        for point in quality.points:
            known = {name: getattr(point, name) for name in ("recall", "precision", "false_positive_rate")}
            assert one.actions[point.action] == {name: x for name, x in known.items() if x is not None}


def test_they_are_on_the_page_with_few_labels(folder):
    make(folder, clock=watched.CLOCK)
    with watched.open_watched(folder, version="amount:2") as runtime:
        reader = MetricReader(runtime)
        reader.look()
        observing = Observing(runtime)
        body, _ = Exposition(runtime, observing.counts, reader).render()
    shown = {
        f.name: f
        for f in text_string_to_metric_families(body.decode())
        if f.name.startswith("penstock_quality")
    }
    of_regressions = {f"penstock_quality_{name}" for name in ("mae", "rmse", "bias")}
    assert set(shown) == {name for name in METRICS if name.startswith("penstock_quality")} - of_regressions
    for name, family in shown.items():
        for sample in family.samples:
            assert set(sample.labels) == set(METRICS[name].labels)
    (found,) = read_quality(folder)
    states = {
        (s.labels["version"], s.labels["state"]): s.value for s in shown["penstock_quality_decisions"].samples
    }
    assert states["", "pending"] == found.groups[0].states["pending"]
    recalls = {s.labels["action"] for s in shown["penstock_quality_recall"].samples}
    assert recalls == {"review", "block"}


def test_nothing_is_there_where_nothing_was_decided_or_made(tmp_path):
    root = watched.write(tmp_path)
    assert read_quality(root) == []
    with watched.open_watched(root):
        pass
    make(root, clock=watched.CLOCK)
    assert read_quality(root) == []
    (root / ".penstock" / "quality.json").write_text("{damaged")
    assert read_quality(root) == []


class Childlike:
    """A process that ends when it is told."""

    made: ClassVar[list] = []

    def __init__(self, module, *arguments):
        self.module, self.arguments, self.returncode = module, arguments, None
        self.made.append(self)

    def wait(self):
        assert self.returncode is not None

    def end(self, _patience_s):
        self.returncode = -15


def test_it_is_made_while_somebody_asks_one_at_a_time_and_for_a_share_of_the_time(folder, monkeypatch):
    monkeypatch.setattr("penstock.app.quality_beside.Child", Childlike)
    monkeypatch.setattr(Childlike, "made", [])
    now = [1_000.0]
    with watched.open_watched(folder) as runtime:
        beside = QualityBeside(folder, lambda: runtime.project, now_s=lambda: now[0])
        beside.look()
        assert Childlike.made == [], "nobody has asked"
        beside.ask()
        for _ in range(3):
            beside.look()
        (first,) = Childlike.made
        assert first.arguments == (str(folder),)
        now[0] += 20.0
        first.returncode = 0
        beside.look()
        assert len(Childlike.made) == 1
        now[0] += 20.0 / 0.05 - 1
        beside.ask()
        beside.look()
        assert len(Childlike.made) == 1, "it took 20 seconds, and may take a twentieth"
        now[0] += 2
        beside.look()
        assert len(Childlike.made) == 2
        Childlike.made[1].returncode = 0
        beside.look()
        now[0] += LEAST_PAUSE_S + WANTED_S
        beside.look()
        assert len(Childlike.made) == 2, "nobody asks any more"
        beside.ask()
        beside.look()
        beside.close()
        assert Childlike.made[2].returncode == -15


def test_only_the_window_is_read(folder, monkeypatch):
    """However long the log is: what is before the window and the delay of labels is not looked at."""
    with watched.open_watched(folder, version="amount:2") as runtime:
        rows = watched.payments(50, first=2_000)
        runtime.ingest("payments", rows)
        assert rows[0]["t"] > watched.START + timedelta(days=60)
    monkeypatch.setattr("penstock.app.retraining_data.STEP_ROWS", 100)
    starts = []

    def noted(*arguments, **options):
        starts.append(options["start"])
        return iter(())

    monkeypatch.setattr("penstock.app.quality_figures.scored_batches", noted)
    make(folder, clock=watched.CLOCK)
    assert starts
    assert min(starts) > 800
