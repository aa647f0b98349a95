"""The machine and this process: processors, memory, disk, what waits, and who changed what."""

from __future__ import annotations

from typing import Any

from penstock.dashboard import charts
from penstock.dashboard.elements import Column, card, cell, chart, el, facts, row, set_chart, stack, table
from penstock.dashboard.frame import headline
from penstock.dashboard.texts import duration, figure, moment, percent, size, whole
from penstock.dashboard.view import View

AUDIT_ROWS = 30


async def page(view: View) -> None:
    """Build the page."""
    version = await view.get("/v1/version")
    with headline("System", f"Penstock {version['version']}, definitions {version['plan'][:12]}"):
        pass
    with stack():
        tiles = stack("tiles")
        with stack("two"):
            with card("Processors", "in use by this process"):
                cpu = chart("Processors in use over time", charts.over_time([], {}), "chart low")
            with card("Memory", "of this process"):
                memory = chart("Memory over time", charts.over_time([], {}), "chart low")
            with card("Disk", "bytes a second, read and written"):
                disk = chart("Bytes read and written over time", charts.over_time([], {}), "chart low")
            with card("Queue", "requests that wait for the engine"):
                queue = chart("Requests that wait over time", charts.over_time([], {}), "chart low")
        with stack("two"):
            stored, totals = card("On disk"), card("Counted since the project began")
        with card("Audit log", "who changed what, when and why; hash-chained", "card flush"):
            await _audit(view)

    def history(found: dict[str, Any]) -> None:
        start_us, step_us = found["start_us"], found["step_s"] * 1_000_000

        def draw(made: Any, values: dict[str, Any], unit: str = "") -> None:
            set_chart(made, charts.over_time(start_us, values, unit=unit, step_us=step_us))

        seconds = found["step_s"]
        draw(cpu, {"processors": found["cpu"]})
        draw(memory, {"resident": found["memory_bytes"]}, "bytes")
        draw(
            disk,
            {
                name: [v / seconds for v in found[key]]
                for name, key in (("read", "read_bytes"), ("written", "written_bytes"))
            },
            "bytes",
        )
        draw(queue, {"requests": found["queue"]})

    def machine(found: dict[str, Any]) -> None:
        tiles.clear()
        with tiles:
            _machine(found)
        stored.clear()
        with stored:
            with el("header"):
                el("h2", "", "On disk")
            facts(
                [
                    (name, size(count))
                    for name, count in sorted(found["bytes"].items(), key=lambda one: -one[1])
                ]
            )

    def counted(found: dict[str, Any]) -> None:
        totals.clear()
        with totals:
            with el("header"):
                el("h2", "", "Counted since the project began")
            facts(
                [
                    (name.replace("_", " ").replace(".", ": "), whole(count))
                    for name, count in {**found["totals"], **(found["audit"] or {})}.items()
                ]
            )

    await view.watch("/v1/live?step=second", 5.0, history)
    await view.watch("/v1/system", 5.0, machine)
    await view.watch("/v1/status", 5.0, counted)


def _machine(found: dict[str, Any]) -> None:
    used = found["memory_total"] - found["memory_available"]
    on_disk = found["disk_total"] - found["disk_free"]
    tiles = [
        (
            "This process",
            size(found["process_memory_bytes"]),
            f"{whole(found['process_threads'])} threads, {duration(found['process_cpu_s'])} of processors",
        ),
        (
            "Processors",
            whole(found["processors"]),
            f"{figure(found['cpu_s'].get('iowait', 0))} s waited for disks",
        ),
        ("Memory", percent(used / found["memory_total"]), f"{size(used)} of {size(found['memory_total'])}"),
        ("Disk", percent(on_disk / found["disk_total"]), f"{size(found['disk_free'])} free"),
        ("Waiting", whole(found["queue_requests"]), f"requests with {whole(found['queue_events'])} events"),
    ]
    tiles += [
        (
            f"GPU {gpu['number']}",
            percent(gpu["busy"]),
            f"{size(gpu['memory_used'])} of {size(gpu['memory_total'])}",
        )
        for gpu in found["gpus"]
    ]
    for name, value, note in tiles:
        with el("div", "tile still"):
            el("span", "name", name)
            el("span", "figure", value)
            el("span", "note", note)


async def _audit(view: View) -> None:
    found = await view.find(f"/v1/audit?limit={AUDIT_ROWS}")
    rows = [
        row(
            one["sequence"],
            [
                whole(one["sequence"]),
                moment(one["time"]),
                cell(one["actor"], tone="soft"),
                one["action"],
                one["subject"],
                cell(one["reason"], tone="soft"),
            ],
        )
        for one in ([] if found is None else found["items"])
    ]
    columns = (
        Column("Row"),
        Column("Time", "time"),
        Column("Who"),
        Column("What"),
        Column("To what"),
        Column("Why"),
    )
    table("Audit log", columns, rows, empty="Nothing was changed yet, or the key may not read it.")
