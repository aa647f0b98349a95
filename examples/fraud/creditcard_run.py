"""Kaggle's creditcard.csv through the platform: streamed into the log, trained on, then scored live.

The file holds two days. Its first 40 hours are history: logged, and labelled four hours after each payment. The model
trains on the first 20, is tested on hours 24 to 36, and decides on the rest as it streams in.
"""

from __future__ import annotations

import argparse
from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from penstock.app import Runtime
from penstock.app.training import data_from_log, policy_of, train_model
from penstock.definitions.project import load_project
from penstock.monitoring.report import Grid, Section

from .commands import in_project, shown
from .creditcard import COMPONENTS, CREDITCARD_FILE, START, read_creditcard
from .feed import Feed
from .session import (
    draining,
    load_history,
    publish,
    remember,
    remembered,
    report_on,
    run_audit,
    run_live,
)
from .world import CREDITCARD_PROJECT

if TYPE_CHECKING:
    from pathlib import Path
    from threading import Event

    from rich.console import Console

    from penstock.app.settings import Settings

LABEL_DELAY = timedelta(hours=4)
LIVE_FROM = timedelta(hours=40)
INTERRUPTED = 130
NEXT = (
    (in_project("status", CREDITCARD_PROJECT), "counters, labels, the champion"),
    (f"less {shown(CREDITCARD_PROJECT / 'definitions.py')}", "all that a user writes"),
)


def run_file(console: Console, options: argparse.Namespace, *, settings: Settings) -> int:
    """Stream, train and score the file; the process's exit code."""
    folder: Path = options.folder or CREDITCARD_PROJECT
    path = CREDITCARD_FILE if options.folder is None else folder / "data" / CREDITCARD_FILE.name
    table = read_creditcard(path)
    console.print(
        f"\n[bold]Kaggle's creditcard.csv[/]: {table.num_rows:,} payments of two days", highlight=False
    )
    events = table.select(["transaction_id", "timestamp", *COMPONENTS, "amount"])
    seconds = pc.subtract(table["timestamp"], pa.scalar(START, pa.timestamp("us", tz="UTC")))
    first = pc.sum(pc.less(seconds, pa.scalar(LIVE_FROM, pa.duration("us")))).as_py()
    with Runtime.open(folder, project=load_project(CREDITCARD_PROJECT), settings=settings) as runtime:
        feed = Feed(runtime, "payments", events, "frauds", labels_of(table))
        with draining() as cancelled:
            models = _feed(
                console, options, runtime, feed=feed, first=first, folder=folder, cancelled=cancelled
            )
            stopped = cancelled.is_set()
        if models is None:
            console.print("Interrupted, drained. Run it again to continue.")
            return INTERRUPTED
        audited = None if stopped else run_audit(console, runtime)
        report = report_on(
            runtime,
            title="Kaggle's creditcard.csv, live",
            speed=remembered(folder / "reports"),
            audited=audited,
            models=models,
            commands=NEXT,
        )
    publish(console, report, folder / "reports")
    if stopped:
        return INTERRUPTED
    return 0 if audited is not None and audited.clean else 1


def labels_of(table: pa.Table) -> pa.Table:
    """The truth of each payment, known `LABEL_DELAY` later."""
    known = pc.add(table["timestamp"], pa.scalar(LABEL_DELAY, pa.duration("us")))
    return table.select(["transaction_id", "is_fraud"]).append_column("reported_at", known)


def _feed(
    console: Console,
    options: argparse.Namespace,
    runtime: Runtime,
    *,
    feed: Feed,
    first: int,
    folder: Path,
    cancelled: Event,
) -> Section | None:
    """History, model, live stream; the section on the model, or None if it was cancelled before."""
    load_history(console, feed, first, cancelled=cancelled)
    if cancelled.is_set():
        return None
    models = _trained(console, runtime, folder)
    if feed.done < feed.events.num_rows:
        speed = run_live(
            console,
            runtime,
            feed,
            start=first,
            stop=feed.events.num_rows,
            rate=options.rate,
            cancelled=cancelled,
        )
        remember(speed, folder / "reports")
    return models


def _trained(console: Console, runtime: Runtime, folder: Path) -> Section:
    """The model: trained from the log if there is none yet, promoted, loaded."""
    model = runtime.project.models["creditcard"]
    registry = runtime.registry
    if not registry.versions(model.name):
        console.print("Training from the log.")
        logged = runtime.features(model.features.name)
        policy = policy_of(runtime.project, model)
        data = data_from_log(runtime.store, runtime.plan, model, logged, policy=policy)
        run = train_model(
            runtime.project,
            model,
            data,
            registry=registry,
            clock=runtime.clock,
            reports=folder / "reports",
            actor="examples.fraud",
            reason="the example",
        )
        registry.promote(model.name, run.version.version, actor="examples.fraud", reason="the example")
    runtime.load_routes()
    metrics = registry.get(model.name, "champion").manifest().metrics
    row = (model.name, *(f"{metrics[name]:.3f}" for name in ("roc_auc", "average_precision")))
    return Section(
        title="The model on hours 24 to 36",
        text=f"{metrics['rows']:,} payments, {metrics['positives']:,} frauds; trained on the first 20 hours.",
        grid=Grid(("model", "AUC ROC", "average precision"), (row,)),
    )
