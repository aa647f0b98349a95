"""Four machines and their sensors, always the same: load, temperature, vibration and current, and what went wrong when."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

START = datetime(2026, 3, 2, tzinfo=UTC)
STEP = timedelta(minutes=5)
PER_DAY = 288
DAYS, QUIET_DAYS, MACHINES = 28, 7, 4
KNOWN_AFTER = timedelta(days=2)
"""So long the mechanic takes to write down what was wrong, and that nothing was."""
SENSORS = ("load", "temperature", "vibration", "current")
NOISE = {"load": 0.02, "temperature": 0.4, "vibration": 0.12, "current": 0.5}

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fault:
    """What went wrong with one machine: readings ``[first, stop)``."""

    kind: str
    machine: int
    first: int
    stop: int


LENGTHS = {"spike": 6, "level": 36, "drift": 144, "stuck": 48, "decoupled": 72}
"""Readings of a fault by kind. The wrong values of a spike are its first two; somebody looks at it for half an hour."""


def simulate(days: int = DAYS, seed: int = 5) -> tuple[list[dict[str, FloatArray]], list[Fault]]:
    """The readings of each machine by sensor, float64[days * 288], and the faults by machine and time."""
    draw = np.random.default_rng(seed)
    machines, faults = [], []
    for machine in range(MACHINES):
        readings = _healthy(draw, days * PER_DAY)
        for fault in _planned(draw, machine, days):
            _break(readings, fault, draw)
            faults.append(fault)
        machines.append(readings)
    return machines, faults


def write(folder: Path, days: int = DAYS) -> list[Fault]:
    """Write readings.ndjson and faults.ndjson; the faults."""
    folder.mkdir(parents=True, exist_ok=True)
    machines, faults = simulate(days)
    wrong = np.zeros((MACHINES, days * PER_DAY), np.bool_)
    for fault in faults:
        wrong[fault.machine, fault.first : fault.stop] = True
    with (folder / "readings.ndjson").open("w") as events, (folder / "faults.ndjson").open("w") as labels:
        for i in range(days * PER_DAY):
            at = START + i * STEP
            for machine, readings in enumerate(machines):
                number = i * MACHINES + machine
                values = {name: round(float(readings[name][i]), 4) for name in SENSORS}
                events.write(
                    json.dumps({"id": number, "at": at.isoformat(), "machine_id": machine, **values}) + "\n"
                )
                label: dict[str, Any] = {"id": number, "faulty": bool(wrong[machine, i])}
                labels.write(json.dumps({**label, "known_at": (at + KNOWN_AFTER).isoformat()}) + "\n")
    return faults


def _healthy(draw: np.random.Generator, count: int) -> dict[str, FloatArray]:
    """Load has a day and a mood; heat follows it slowly, vibration and current at once. No two machines are alike."""
    day = np.arange(count) / PER_DAY * 2 * np.pi
    mood = _smooth(draw.normal(0, 1, count), 1 / 48) * 1.5
    load = np.clip(0.55 + 0.25 * np.sin(day - draw.uniform(1, 2)) + 0.1 * mood, 0.05, 1.0)
    room = 20 + 3 * np.sin(day - 2) + draw.normal(0, 2)
    pure = {
        "load": load,
        "temperature": room + draw.uniform(25, 35) * _smooth(load, 1 / 12, begin=float(load[0])),
        "vibration": draw.uniform(0.8, 1.2) + draw.uniform(2, 3) * load,
        "current": draw.uniform(3, 6) + draw.uniform(18, 24) * load,
    }
    return {name: values + draw.normal(0, NOISE[name], count) for name, values in pure.items()}


def _smooth(values: FloatArray, share: float, *, begin: float = 0.0) -> FloatArray:
    """Each value goes a `share` of the way from the one before to the one given; scaled by nothing."""
    out, now = np.empty(len(values)), begin
    for i, value in enumerate(values.tolist()):
        now += share * (value - now)
        out[i] = now
    return out


def _planned(draw: np.random.Generator, machine: int, days: int) -> list[Fault]:
    """After the quiet week every third day something begins, each kind in turn, none over another."""
    kinds = list(LENGTHS)
    starts = [day * PER_DAY for day in range(QUIET_DAYS, days - 1, 3)]
    found = []
    for turn, begin in enumerate(starts):
        kind = kinds[(turn + machine) % len(kinds)]
        first = begin + int(draw.integers(0, PER_DAY))
        found.append(Fault(kind, machine, first, min(first + LENGTHS[kind], days * PER_DAY)))
    return found


def _break(readings: dict[str, FloatArray], fault: Fault, draw: np.random.Generator) -> None:
    rows = slice(fault.first, fault.stop)
    sensor = str(draw.choice(SENSORS[1:]))
    values, count = readings[sensor], fault.stop - fault.first
    sign = float(draw.choice([-1.0, 1.0]))
    match fault.kind:
        case "spike":
            values[fault.first : fault.first + 2] += sign * 12 * NOISE[sensor]
        case "level":
            values[rows] += sign * 5 * NOISE[sensor]
        case "drift":
            readings["temperature"][rows] += np.linspace(0, 20 * NOISE["temperature"], count)
        case "stuck":
            values[rows] = values[fault.first]
        case "decoupled":  # each value is usual; that it goes with this load is not
            vibration = readings["vibration"]
            usual = np.median(vibration[:PER_DAY])
            vibration[rows] = 2 * usual - vibration[rows] + draw.normal(0, NOISE["vibration"], count)
