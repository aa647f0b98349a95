"""Retraining without a hand: what a change of the frauds costs until it is learned, and what training beside costs the scoring.

`python -m benchmarks.retraining drift|nightly EVENTS` is one run, in a child process.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmarks.contest import Contestant, hold
from benchmarks.machine import versions_of
from benchmarks.process import Run
from benchmarks.result import Bar, Figure, Result

if TYPE_CHECKING:
    from penstock.app import Runtime
    from penstock.app.retraining import Retrainer

WHAT = (
    "Payments, 9 % fraud that one of two columns shows; in the middle of the stream it becomes the other column. XGBoost, labels half a day late. Drift: "
    "24 days, looked at each half day; average precision by the scores that were served. Nightly: the log holds 1 M rows; single events are decided, each waited "
    "for, without and with a process beside that trains on them, judges, promotes; the engine swaps."
)
DRIFT, NIGHTLY = "drift", "nightly"
ROWS, DRIFT_ROWS = 1_000_000, 24_000
DAYS = 24
LOOKS_A_DAY = 2
QUIET_S, PAUSE_S, BATCH = 15.0, 0.001, 5_000
START = np.datetime64("2026-01-01T00:00:00", "us")
DEFINITIONS = """
from datetime import timedelta
from penstock import *
from penstock.types import Bool, Field, Float64, Int64, String, Timestamp
from xgboost import XGBClassifier

day = timedelta(days=1)
first, second = Field("first", Float64), Field("second", Float64)
card = Entity("card", [Field("card_id", Int64)])
payments = StreamSource(
    "payments", PushConfig(), event_id_field="id", max_future_skew=timedelta(days=100_000),
    schema=[Field("id", String), Field("card_id", Int64), Field("at", Timestamp), first, second],
)
frauds = LabelSource("frauds", of=payments, label=Field("fraud", Bool), known_at="known_at")

@realtime_feature_view(sources=[RequestSource([first, second])],
    features=[Attribute("first", Float64), Attribute("second", Float64)])
def payment(request):
    return {"first": request["first"], "second": request["second"]}

spending = StreamFeatureView("spending", source=payments, entities=[card], features=[
    Aggregate(first, function, time_window=window)
    for window in (day / 24, day / 4, day) for function in ("count", "mean", "max")])
service = FeatureService("service", features=[payment, spending])
fraud = Model(
    "fraud", features=service, label=frauds, estimator=XGBClassifier(n_estimators=100, max_depth=6),
    split=TimeSplit(train=TRAIN, delay=day / 2, test=day),
    gate=Gate(max_false_positive_rate=0.1),
    retraining=Retraining(new_labels=NEW, on_drift=True, metric_floor={"average_precision": 0.6}, cooldown=timedelta(0)),
)
checkout = Endpoint("checkout", source=payments, model=fraud, policy=Policy("card", actions={"block": 0.5}))
monitor = Monitor(endpoint=checkout, windows=[day], drift_window=day)
"""


class Stream:
    """Payments and labels as NDJSON.

    Parameters
    ----------
    events, changed_from
        How many in 24 days, and the number of the first whose frauds the other column shows.
    more
        How many there are beyond that.
    """

    def __init__(self, events: int, *, changed_from: int, more: int = 0) -> None:
        count = events + more
        draw = np.random.default_rng(7)
        self.values = draw.normal(size=(count, 2))
        seen = np.where(np.arange(count) < changed_from, self.values[:, 0], self.values[:, 1])
        self.fraud = draw.random(count) < 1 / (1 + np.exp(5 - 4 * seen))
        self.cards = draw.integers(0, 5_000, count)
        step = DAYS * 86_400_000_000 // events
        self.at = START + np.arange(count) * np.timedelta64(step, "us")
        self.known_at = self.at + np.timedelta64(12, "h")
        self.sent = self.labelled = 0

    def send(self, runtime: Runtime, stop: int) -> None:
        """Send payments up to `stop`, each label when it is known."""
        while self.sent < stop:
            end = min(self.sent + BATCH, stop)
            runtime.ingest("payments", "\n".join(self.line(i) for i in range(self.sent, end)).encode())
            self.sent = end
            self.send_labels(runtime)

    def send_labels(self, runtime: Runtime) -> None:
        """Send the labels that are known by the time of the newest payment."""
        known = int(np.searchsorted(self.known_at, self.at[self.sent - 1], side="right"))
        if known > self.labelled:
            lines = "\n".join(self._label(i) for i in range(self.labelled, known))
            runtime.ingest("frauds", lines.encode())
            self.labelled = known

    def line(self, i: int) -> str:
        """One payment."""
        one, other = self.values[i].tolist()
        return f'{{"id":"e{i}","card_id":{self.cards[i]},"at":"{self.at[i]}Z","first":{one!r},"second":{other!r}}}'

    def _label(self, i: int) -> str:
        fraud = "true" if self.fraud[i] else "false"
        return f'{{"id":"e{i}","fraud":{fraud},"known_at":"{self.known_at[i]}Z"}}'


def run_drift(events: int) -> dict[str, Any]:
    """Average precision by day while the frauds change, and what retraining did."""
    from penstock.app.metering import labelled_decisions
    from penstock.models.evaluation import evaluate_binary

    stream = Stream(events, changed_from=events // 2)
    with project(train="3 * day", new="None") as runtime:
        retrainer = retrainer_of(runtime)
        outcomes = []
        for look in range(1, DAYS * LOOKS_A_DAY + 1):
            stream.send(runtime, events * look // (DAYS * LOOKS_A_DAY))
            if look == 5 * LOOKS_A_DAY:
                outcomes.append((look, by_hand(retrainer).outcome))
            found = retrainer.look("fraud") if look > 5 * LOOKS_A_DAY else None
            if found is not None:
                outcomes.append((look, found.outcome))
            runtime.load_routes()
        parts = [(d.scores, labels) for _, d, labels in labelled_decisions(runtime.store, "checkout")]
    scores, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
    by_day = [
        None
        if np.isnan(scores[part]).any() or np.isnan(labels[part]).any()
        else evaluate_binary(labels[part], scores[part]).average_precision
        for part in (slice(events * d // DAYS, events * (d + 1) // DAYS) for d in range(DAYS))
    ]
    promoted = [look for look, outcome in outcomes if outcome == "promoted" and look > DAYS * LOOKS_A_DAY / 2]
    early = [look for look, _ in outcomes[1:] if look <= DAYS * LOOKS_A_DAY // 2]
    return {
        "by_day": by_day,
        "before": _mean(by_day[6 : DAYS // 2]),
        "during": by_day[DAYS // 2],
        "after": _mean(by_day[-6:]),
        "days_to_recovery": next(
            (
                d - DAYS / 2
                for d in range(DAYS // 2, DAYS)
                if (by_day[d] or 0) >= 0.9 * _mean(by_day[6 : DAYS // 2])
            ),
            None,
        ),
        "days_to_promotion": promoted[0] / LOOKS_A_DAY - DAYS / 2 if promoted else None,
        "attempts": len(outcomes) - 1,
        "early": len(early),
    }


def run_nightly(events: int) -> dict[str, Any]:
    """Latency of single events without and with retraining beside, and how long its stages took."""
    from penstock.app.guarding import GuardWatch
    from penstock.app.retraining_beside import RetrainingBeside
    from penstock.app.retraining_journal import Journal
    from penstock.app.route_watch import RouteWatch

    stream = Stream(events, changed_from=events * 3 // 10, more=500_000)
    with project(train="30 * day", new="500") as runtime:
        stream.send(runtime, events * 3 // 10)
        first = by_hand(retrainer_of(runtime))
        runtime.load_routes()
        stream.send(runtime, events)
        journal = Journal(runtime.routes.audit, "fraud")
        with RouteWatch(runtime), GuardWatch(runtime):
            singles(runtime, stream, lambda spent: spent < 2)
            quiet = singles(runtime, stream, lambda spent: spent < QUIET_S)
            before = len(journal.attempts())
            with RetrainingBeside(runtime):
                busy = singles(runtime, stream, lambda _: not _is_ended(journal, before))
                swapped = singles(runtime, stream, lambda spent: spent < 3)
        attempt = journal.attempts()[before]
        versions = {arm.scorer.version for arm in runtime.routes["checkout"].serving}
    found = {f"{name} {kind}": value for name, part in (("quiet", quiet), ("busy", busy), ("swapped", swapped)) for kind, value in _percentiles(part).items()}  # fmt: skip
    return found | {
        "first": first.outcome,
        "outcome": attempt.outcome,
        "verdict": attempt.detail.get("verdict"),
        "rows": attempt.detail.get("rows"),
        "seconds": attempt.detail.get("seconds"),
        "singles": [len(quiet), len(busy)],
        "serving": sorted(versions),
        "error": attempt.detail.get("error", ""),
        "trainer_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }


def singles(runtime: Runtime, stream: Stream, go_on: Callable[[float], bool]) -> npt.NDArray[np.float64]:
    """Milliseconds of single events, each decided and stored before the next is sent, with a pause between; labels go untimed."""
    taken: list[float] = []
    began = time.perf_counter()
    while len(taken) % 200 or go_on(time.perf_counter() - began):  # asked now and then only
        line = stream.line(stream.sent).encode()
        stream.sent += 1
        started = time.perf_counter()
        runtime.ingest("payments", line)
        taken.append(1e3 * (time.perf_counter() - started))
        time.sleep(PAUSE_S)
        if not len(taken) % 200:
            stream.send_labels(runtime)
    return np.array(taken)


def by_hand(retrainer: Retrainer) -> Any:
    """An attempt that nothing triggered."""
    from penstock.models.triggers import Trigger

    return retrainer.attempt("fraud", Trigger("hand", "by hand"))


def retrainer_of(runtime: Runtime) -> Retrainer:
    """Retraining in this process."""
    from penstock.app.retraining import Retrainer

    audit, clock = runtime.routes.audit, runtime.clock
    return Retrainer(runtime.project, runtime.store, registry=runtime.registry, audit=audit, clock=clock)


@contextmanager
def project(*, train: str, new: str) -> Iterator[Runtime]:
    """A project in a folder of its own."""
    from penstock.app import Runtime

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "definitions.py").write_text(DEFINITIONS.replace("TRAIN", train).replace("NEW", new))
        (root / "penstock.toml").write_text(
            '[project]\nname = "retraining"\n[engine]\ndurability = "process"\n[audit]\nrate = 0\n[offline]\nexport = false\n'
        )
        with Runtime.open(root) as runtime:
            yield runtime


def measure(*, scale: float = 1.0, say: Callable[[str], None] = print) -> Result:
    """Both, in turns."""

    def contestant(who: str, events: int) -> Contestant:
        command: list[str | Path] = [sys.executable, "-m", "benchmarks.retraining", who, str(events)]
        return Contestant(who, lambda: command, events=events, timeout_s=3_600)

    contest = hold([contestant(DRIFT, DRIFT_ROWS), contestant(NIGHTLY, max(int(ROWS * scale), 50_000))], say)
    drift, nightly = (_report(contest.runs.get(who)) for who in (DRIFT, NIGHTLY))
    p99 = [nightly.get(f"{name} p99") for name in ("quiet", "busy")]
    ratio = None if None in p99 else p99[1] / p99[0]  # type: ignore[operator]
    before, after = drift.get("before"), drift.get("after")
    figures = [
        Figure.median(f"average precision {when} the change", "", [drift[key]])
        for when, key in (("before", "before"), ("on the day of", "during"), ("at the end after", "after"))
        if drift.get(key) is not None
    ]
    figures += [
        Figure.median(f"single event, {name}, {kind}", "ms", [nightly[f"{name} {kind}"]])
        for name in ("quiet", "busy", "swapped")
        for kind in ("p50", "p99")
        if f"{name} {kind}" in nightly
    ]
    stages = (nightly.get("seconds") or {}).items()
    figures += [
        Figure.median(f"nightly: {stage}", "s", [value], events=nightly["rows"]) for stage, value in stages
    ]
    if "trainer_mb" in nightly:
        figures.append(Figure.median("peak memory of the process that trains", "MB", [nightly["trainer_mb"]]))
    return Result(
        benchmark="retraining",
        what=WHAT,
        figures=tuple(figures),
        bars=(
            Bar("p99 with training beside, against without", ratio, 2, "×", at_most=True),
            Bar("average precision recovered", None if not before or after is None else after / before, 0.9),
            Bar("days from the change to the new version", drift.get("days_to_promotion"), 3, at_most=True),
            Bar("days until 90 % of the precision are back", drift.get("days_to_recovery"), 7, at_most=True),
            Bar("attempts before the change", drift.get("early"), 0, at_most=True),
            Bar("nightly: promoted and swapped", float(_is_swapped(nightly)), 1),
        ),
        failed=contest.failed,
        scale=scale,
        versions=versions_of("penstock", "numpy", "xgboost-cpu"),
    )


def _is_swapped(nightly: dict[str, Any]) -> bool:
    return nightly.get("outcome") == "promoted" and nightly.get("serving") == ["fraud:2"]


def _is_ended(journal: Any, before: int) -> bool:
    attempts = journal.attempts()
    return len(attempts) > before and bool(attempts[before].outcome)


def _percentiles(taken: npt.NDArray[np.float64]) -> dict[str, float]:
    return {"p50": float(np.median(taken)), "p99": float(np.quantile(taken, 0.99))}


def _mean(values: list[float | None]) -> float:
    return float(np.mean([value for value in values if value is not None]))


def _report(runs: list[Run] | None) -> dict[str, Any]:
    return runs[0].report if runs else {}


def main(who: str, events: int) -> None:
    """One run; its report is the last line."""
    print(json.dumps(run_drift(events) if who == DRIFT else run_nightly(events)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
