from datetime import timedelta

import pytest
from typer.testing import CliRunner

from penstock.app.measuring import metrics_of, monitor_of, stored_board
from penstock.app.metering import Meter
from penstock.app.metrics_report import metrics_report
from penstock.cli.main import app
from penstock.core.errors import NotFoundError
from penstock.core.time import to_us
from tests.unit.app import watched


def send(runtime, meter, source, rows):
    processed = runtime.process([(source, runtime.engine.decode(source, rows))])
    meter.watch(processed, handed_in_s=0.0)


def feed(runtime, meter, *, first=0, count=300, seed=0):
    """Payments in odd batches; labels before their events, late, repeated and corrected among them."""
    rows = watched.payments(count, first=first, seed=seed)
    for at in range(0, count, 17):
        batch = rows[at : at + 17]
        early = watched.labels(batch[:3], seed=at, share=1.0)
        if at % 34 == 0:
            send(runtime, meter, "charges", early)
        send(runtime, meter, "payments", batch)
        older = rows[max(at - 60, 0) : max(at - 40, 0)]
        if older:
            send(runtime, meter, "charges", watched.labels(older, seed=at, wrong=0.3))
        if at > 120:
            later = timedelta(days=4)
            send(
                runtime, meter, "charges", watched.labels(rows[at - 110 : at - 90], seed=at + 1, delay=later)
            )
    meter.finish()


def same(live, again):
    assert live.groups == again.groups
    for group in live.groups:
        assert live.total(group).summary() == again.total(group).summary(), group
        assert live.windows(group) == again.windows(group), group


@pytest.fixture
def folder(tmp_path):
    return watched.write(tmp_path)


@pytest.mark.parametrize("seed", range(3))
def test_live_figures_are_those_made_again_from_the_store(folder, seed):
    with watched.open_watched(folder) as runtime:
        monitor, meter = monitor_of(runtime.project), Meter(runtime, "checkout")
        feed(runtime, meter, seed=seed)
        same(meter.board, stored_board(runtime.store, runtime.plan, monitor))
        quality = meter.board.total().summary()
        assert quality.labelled > 150
        assert quality.pending > 20
        assert {g.dimension for g in meter.board.groups} == {
            "all",
            "version",
            "arm",
            "country",
            "payment.large",
        }
    with watched.open_watched(folder, version="amount:2") as runtime:
        meter = Meter(runtime, "checkout")
        feed(runtime, meter, first=300, seed=seed)
        same(meter.board, stored_board(runtime.store, runtime.plan, monitor))
        versions = metrics_of(meter.board, monitor, by="version").groups
        assert [one.value for one in versions] == ["amount:1", "amount:2"]
        assert sum(one.quality.labelled for one in versions) == meter.board.total().summary().labelled


def test_as_of_knows_what_was_known_then(folder):
    rows = watched.payments(200)
    with watched.open_watched(folder) as runtime:
        meter = Meter(runtime, "checkout")
        send(runtime, meter, "payments", rows[:100])
        send(runtime, meter, "charges", watched.labels(rows[:60], share=1.0, delay=timedelta(hours=1)))
        meter.finish()
        then = meter.board.total().summary()
        moment = max(to_us(row["t"]) for row in rows[:100])
        send(runtime, meter, "payments", [r for r in rows[100:] if to_us(r["t"]) > moment])
        send(runtime, meter, "charges", watched.labels(rows, seed=9, share=1.0, delay=timedelta(days=9)))
        meter.finish()
        assert meter.board.total().summary().labelled > then.labelled
        again = stored_board(runtime.store, runtime.plan, monitor_of(runtime.project), as_of_us=moment)
        assert again.total().summary() == then


def test_forgotten_events_are_left_out(folder):
    from penstock.app.forgetting import forget

    with watched.open_watched(folder) as runtime:
        meter = Meter(runtime, "checkout")
        feed(runtime, meter, count=60)
        before = meter.board.total().summary()
    forget(folder, "card", ["3"], clock=watched.CLOCK)
    with watched.open_watched(folder) as runtime:
        after = Meter(runtime, "checkout").board.total().summary()
    assert after.labelled + after.pending < before.labelled + before.pending


def test_the_command_says_the_same(folder):
    with watched.open_watched(folder) as runtime:
        meter = Meter(runtime, "checkout")
        feed(runtime, meter)
        total = meter.board.total().summary()
    for options in ([], ["--by", "day"], ["--by", "version"], ["--by", "segment:country"]):
        shown = CliRunner().invoke(app, ["metrics", "--project", str(folder), *options])
        assert shown.exit_code == 0, shown.output
        assert "average precision" in shown.output
        assert f"{total.labelled:,}" in shown.output
        assert max(map(len, shown.output.splitlines())) <= 80
    with pytest.raises(NotFoundError, match="segment:NAME of country"):
        metrics_of(meter.board, monitor_of(runtime.project), by="segment:shop")


def test_an_endpoint_without_a_monitor_has_a_default_one(folder):
    watched.write(folder, watched.DEFINITIONS.partition("monitor = ")[0])
    with watched.open_watched(folder) as runtime:
        monitor = monitor_of(runtime.project, "checkout")
        assert (monitor.name, monitor.delay, monitor.segments) == ("checkout", timedelta(days=3), ())
        with pytest.raises(NotFoundError, match="checkout"):
            monitor_of(runtime.project, "checkin")


def shops(first, names, *, each=1):
    """Payments of these countries, one after the other."""
    rows = watched.payments(len(names) * each, first=first)
    return [row | {"country": names[at % len(names)]} for at, row in enumerate(rows)]


def told(board):
    return {group.value for group in board.groups if group.dimension == "country"}


def test_the_segments_that_are_told_apart_are_the_most_frequent_of_the_windows(folder):
    """Not those that came first: rare ones come first here, and the frequent ones change."""
    with watched.open_watched(folder) as runtime:
        monitor, meter = monitor_of(runtime.project), Meter(runtime, "checkout")
        rare = [f"rare{i}" for i in range(5)]
        send(runtime, meter, "payments", shops(0, rare))
        send(runtime, meter, "payments", shops(5, ["DE", "FR", "IT", "DE", "FR", "IT", *rare], each=10))
        meter.finish()
        same(meter.board, stored_board(runtime.store, runtime.plan, monitor))
        assert {"DE", "FR", "IT", "(other)"} <= told(meter.board)
        total = meter.board.total().summary().pending
        assert total == 115
        assert (
            sum(
                group.quality.pending
                for group in metrics_of(meter.board, monitor, by="segment:country").groups
            )
            == total
        )
        report = metrics_report(runtime.store, runtime.plan, monitor)
        assert {one["value"] for one in report["groups"] if one["dimension"] == "country"} == told(
            meter.board
        )
        send(runtime, meter, "payments", shops(115, ["PT", "NL", "SE", "PT", "NL", "SE", "DE"], each=60))
        meter.finish()
        same(meter.board, stored_board(runtime.store, runtime.plan, monitor))
        assert told(meter.board) == {"PT", "NL", "SE", "(other)"}, "what was frequent weeks ago is not shown"
        labels = watched.labels(shops(115, ["PT"], each=20), share=1.0)
        send(runtime, meter, "charges", labels)
        meter.finish()
        same(meter.board, stored_board(runtime.store, runtime.plan, monitor))
