"""Learning while scoring: what an online logistic regression reaches on the fraud stream, and how fast it and the engine are.

`python -m benchmarks.online_learning WHO FILE DAYS` is one contestant, in a child process.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.contest import Contestant, hold
from benchmarks.machine import versions_of
from benchmarks.process import ROOT, WORK
from benchmarks.result import Bar, Figure, Result

if TYPE_CHECKING:
    from examples.fraud.online_run import Judged
    from examples.fraud.world import World

WHAT = (
    "The fraud stream from its first day, labels 7 days late: each payment scored, then its label learned a week later. Figures are means of "
    "the four weeks from 2018-08-08 by the published protocol. Penstock's engine decides, stores and looks up the labels besides; "
    "plain River has its rows in memory."
)
FOLD, PLATFORM, RIVER = "Penstock, the fold", "Penstock, engine and learner", "River, row by row"
TREES = "Penstock, enriched trees anew each week"
DAYS = 28
BARS = (
    ("ROC AUC", "roc_auc", 0.865),
    ("average precision", "average_precision", 0.609),
    ("CP@100", "card_precision", 0.292),
)
BEST_BARS = (("roc_auc", 0.875), ("average_precision", 0.70), ("card_precision", 0.305))
"""What the best combination is asked for."""
EVENTS_PER_S = 20_000
RATE = "events/s"


def run_fold(cache: Path) -> dict[str, Any]:
    """Figures by the copies that were published before each payment came; labels and scores a second."""
    from examples.fraud.online_definitions import logistic_online
    from examples.fraud.online_run import judge, learning_rows
    from examples.fraud.world import World

    world = World()
    return _report(judge(logistic_online, world, learning_rows(world), _vectors(cache)))


def run_trees() -> dict[str, Any]:
    """The best combination: trees on the enriched features, fitted anew each week on labels that are known by then."""
    from examples.fraud.online_definitions import trees_online
    from examples.fraud.online_run import features_of, judge, learning_rows
    from examples.fraud.world import World

    world = World()
    table = learning_rows(world)
    return _report(judge(trees_online, world, table, features_of(trees_online, world, table)))


def run_river(cache: Path) -> dict[str, Any]:
    """The same payments and labels in the same order, as a user of River writes it."""
    from river import linear_model, optim, preprocessing

    from examples.fraud.online_run import Judged, learning_rows, mean_of_weeks
    from examples.fraud.protocol import day_number, utc_days
    from examples.fraud.world import World

    world = World()
    table, vectors = learning_rows(world), _vectors(cache)
    times = table["timestamp"].cast("timestamp[us]").cast("int64").to_numpy()
    truth = table["is_fraud"].to_numpy(zero_copy_only=False)
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.Adam(1e-3))
    names = [f"f{number}" for number in range(vectors.shape[1])]
    rows, labels, when = vectors.tolist(), truth.tolist(), times.tolist()
    first = int(np.searchsorted(utc_days(table), day_number(world.protocol.test_start)))
    scores, known = np.zeros(len(rows)), 0
    started = time.perf_counter()
    for number in range(first, len(rows)):
        while when[known] + 7 * 86_400_000_000 <= when[number]:
            model.learn_one(dict(zip(names, rows[known], strict=True)), labels[known])
            known += 1
        scores[number] = model.predict_proba_one(dict(zip(names, rows[number], strict=True)))[True]
    rate = (known + len(rows) - first) / (time.perf_counter() - started)
    return _report(Judged(mean_of_weeks(world, table, scores), known, rate))


def run_platform(days: int) -> dict[str, Any]:
    """The engine decides on a stream with its labels while the learner's process learns them; until both are done."""
    from examples.fraud.feed import Feed
    from examples.fraud.world import World, events_of, labels_of
    from penstock.app import Runtime
    from penstock.app.learners_beside import LearnersBeside

    world = World()
    start = world.protocol.test_start
    rows = world.with_history(start, start + timedelta(days=days))
    first = rows.num_rows - world.between(start, start + timedelta(days=days)).num_rows
    with tempfile.TemporaryDirectory() as folder:
        root = _project(Path(folder), world)
        feed = ("transactions", events_of(rows), "chargebacks", labels_of(rows))
        with Runtime.open(root) as runtime:
            Feed(runtime, *feed).run(first, decide=False, cancelled=Event())
        _train(root)
        with Runtime.open(root) as runtime, LearnersBeside(runtime) as learners:
            _wait_for(learners)
            before = runtime.store.counters()["labels_joined"]
            started = time.perf_counter()
            Feed(runtime, *feed).run(rows.num_rows, cancelled=Event())
            decided = time.perf_counter() - started
            learners.finish()
            took = time.perf_counter() - started
            labels = runtime.store.counters()["labels_joined"] - before
            error = next(iter(learners.progress.values())).error
    if error:
        sys.exit(error)
    events = rows.num_rows - first
    return {
        "rows_per_s": events / took,
        "decided_per_s": events / decided,
        "labels": labels,
        "events": events,
    }


def _project(folder: Path, world: World) -> Path:
    """The example's definitions with a learning model on the endpoint."""
    text = (ROOT / "examples" / "fraud" / "definitions.py").read_text(encoding="utf-8")
    model = """
from penstock import Online
from river import linear_model, optim, preprocessing

logistic_online = Model(
    name="logistic_online", features=fraud_features, label=chargebacks, learning=Online(publish_every=1000),
    estimator=preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.Adam(3e-4)),
)
"""
    head, endpoint, tail = text.partition("checkout = Endpoint(")
    (folder / "definitions.py").write_text(
        f"{head}{model}\n{endpoint}{tail.replace('model=boosted', 'model=logistic_online')}"
    )
    (folder / "penstock.toml").write_text(
        '[project]\nname = "learning"\n[engine]\nfuture_check = false\n[audit]\nrate = 0\n[offline]\nexport = false\n'
    )
    assert world.protocol.test_days
    return folder


def _train(root: Path) -> None:
    from penstock.app.online_training import learn_from_log, register_learning
    from penstock.app.runtime import learned_path, open_reader, plan_of, registry_of
    from penstock.core.clock import SystemClock
    from penstock.definitions.project import load_project
    from penstock.engine.recovery import no_progress

    project = load_project(root)
    plan, model, registry = plan_of(project), project.models["logistic_online"], registry_of(root)
    with open_reader(root) as store:
        learned = learn_from_log(plan, project, model, store, progress=no_progress)
    run = register_learning(
        plan,
        model,
        learned,
        registry=registry,
        clock=SystemClock(),
        states=learned_path(root),
        reports=root / "reports",
        actor="benchmark",
        reason="benchmark",
        erasures=0,
    )
    registry.promote(model.name, run.version.version, actor="benchmark", reason="benchmark")


def _wait_for(learners: Any) -> None:
    """Until the learner's process has started: a run lasts longer than its start."""
    while not all(one.started_from or one.error for one in learners.progress.values()):
        time.sleep(0.05)


def _vectors(cache: Path) -> Any:
    """The features, computed by whoever comes first."""
    from examples.fraud.online_definitions import logistic_online
    from examples.fraud.online_run import features_of, learning_rows
    from examples.fraud.world import World

    world = World()
    if not cache.exists():
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.save(cache, features_of(logistic_online, world, learning_rows(world)))
    return np.load(cache)


def _report(judged: Judged) -> dict[str, Any]:
    return judged.score._asdict() | {"rows_per_s": judged.rows_per_s, "labels": judged.labels}


def measure(*, scale: float = 1.0, say: Callable[[str], None] = print) -> Result:
    """Ours and plain River by turns; the figures always of the whole stream."""
    cache = WORK / "online_learning.npy"
    cache.unlink(missing_ok=True)

    def contestant(name: str, who: str, repetitions: int = 3) -> Contestant:
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "benchmarks.online_learning",
            who,
            cache,
            str(max(1, round(DAYS * scale))),
        ]
        return Contestant(name, lambda: command, repetitions=1 if scale < 1 else repetitions)

    contest = hold(
        [
            contestant(FOLD, "fold"),
            contestant(PLATFORM, "platform"),
            contestant(TREES, "trees", 1),
            contestant(RIVER, "river"),
        ],
        say,
    )
    figures = tuple(
        Figure.median(
            name,
            RATE,
            [run.report["rows_per_s"] for run in runs],
            peak_mb=round(max(r.peak_mb for r in runs), 1),
        )
        for name, runs in contest.runs.items()
    )
    reached = contest.runs[FOLD][0].report if FOLD in contest.runs else {}
    theirs = contest.runs[RIVER][0].report if RIVER in contest.runs else {}
    best = contest.runs[TREES][0].report if TREES in contest.runs else {}
    quality = [
        Figure(f"{name}, {label}", "", found[key], (found[key],))
        for name, found in ((FOLD, reached), (TREES, best), (RIVER, theirs))
        for label, key, _ in BARS
        if key in found
    ]
    rate = next((figure.value for figure in figures if figure.contestant == PLATFORM), None)
    return Result(
        benchmark="online_learning",
        what=WHAT,
        figures=(*figures, *quality),
        bars=(
            *(Bar(label, reached.get(key), limit) for label, key, limit in BARS),
            *(
                Bar(f"{label}, the best", best.get(key), limit)
                for (label, *_), (key, limit) in zip(BARS, BEST_BARS, strict=True)
            ),
            Bar("engine and learner", rate, EVENTS_PER_S, RATE),
        ),
        failed=contest.failed,
        scale=scale,
        versions=versions_of("penstock", "numpy", "numba", "river"),
    )


def main(who: str, cache: Path, days: int) -> None:
    """Run one contestant and print its report."""
    turns: dict[str, Callable[[], dict[str, Any]]] = {
        "fold": lambda: run_fold(cache),
        "trees": run_trees,
        "river": lambda: run_river(cache),
        "platform": lambda: run_platform(days),
    }
    print(json.dumps(turns[who]()))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
