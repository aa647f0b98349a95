"""``penstock``: the commands. Each lives in a module of its own, which imports what it needs when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.cli import (
    alerts,
    audit,
    backfill,
    backtest,
    backup,
    catalog,
    change,
    contracts,
    dataset,
    dead_letters,
    doctor,
    drift,
    experiment,
    explain,
    explain_event,
    forget,
    gate,
    init,
    keys,
    lineage,
    lists,
    live_data,
    materialize,
    metrics,
    migrate,
    offline,
    policies,
    prove,
    registry,
    replay,
    replica,
    retrain,
    retraining,
    route,
    run,
    score,
    status,
    train,
    worker,
)
from penstock.cli.exits import EXIT_TEXTS, Commands

EPILOG = "Exit codes: " + "; ".join(f"{code.value} {text}" for code, text in EXIT_TEXTS.items()) + "."

app = typer.Typer(
    name="penstock",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)


def _version(*, wanted: bool) -> None:
    if wanted:
        import penstock

        typer.echo(penstock.__version__)
        raise typer.Exit


@app.callback()
def penstock(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=lambda wanted: _version(wanted=wanted)),
    ] = False,
) -> None:
    """Real-time machine learning from event to decision.

    Commands work on the project that you stand in: the nearest folder with a penstock.toml. PENSTOCK_DEBUG=1 shows the
    traceback of an error.
    """


app.command("init")(init.init)
app.command("explain")(explain.explain)
app.command("plan")(change.plan)
app.command("apply")(change.apply)
app.command("versions")(change.versions)
app.command("policies")(policies.policies)
app.add_typer(catalog.commands, name="catalog")
app.command("lineage")(lineage.lineage)
app.command("contracts")(contracts.contracts)
app.command("run")(run.run)
app.command("up")(run.up)
app.command("worker")(worker.worker)
app.command("replica")(replica.replica)
app.command("live-data")(live_data.live_data)
app.command("materialize")(materialize.materialize)
app.command("score")(score.score)
app.command("train")(train.train)
app.command("retrain")(retrain.retrain)
app.add_typer(retraining.commands, name="retraining")
app.command("gate")(gate.gate)
app.add_typer(registry.commands, name="registry")
app.command("route")(route.route)
app.command("experiment")(experiment.experiment)
app.add_typer(dataset.commands, name="dataset")
app.add_typer(offline.commands, name="offline")
app.command("backfill")(backfill.backfill)
app.command("backtest")(backtest.backtest)
app.command("replay")(replay.replay)
app.command("test")(prove.prove)
app.command("audit")(audit.audit)
app.command("explain-event")(explain_event.explain_event)
app.command("metrics")(metrics.metrics)
app.command("drift")(drift.drift)
app.add_typer(alerts.commands, name="alerts")
app.add_typer(lists.commands, name="lists")
app.add_typer(keys.commands, name="keys")
app.add_typer(dead_letters.commands, name="dead-letters")
app.command("migrate")(migrate.migrate)
app.command("status")(status.status)
app.command("forget")(forget.forget)
app.command("doctor")(doctor.doctor)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
