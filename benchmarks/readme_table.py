"""Writes the README's table of figures from benchmarks/results: `python -m benchmarks.readme_table [--check]`.

The table stands between the two marks below. With --check nothing is written and a table that differs is an error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.process import ROOT
from benchmarks.result import RESULTS

README = ROOT / "README.md"
BEGIN = "<!-- figures: made by `python -m benchmarks.readme_table` from benchmarks/results -->"
END = "<!-- end of figures -->"


class ReadmeError(Exception):
    """The README has no place for the table, or its table is not the one that the results give."""


def main(arguments: list[str]) -> int:
    """Write or check the table."""
    try:
        update(check=arguments == ["--check"])
    except ReadmeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def update(*, check: bool) -> None:
    """Write the table, or see that it is the one that the results give."""
    text = README.read_text(encoding="utf-8")
    wanted = with_table(text, render(load(RESULTS)))
    if check and wanted != text:
        raise ReadmeError(
            f"{README.name}: the table of figures is not that of the results; run `python -m benchmarks.readme_table`"
        )
    if not check:
        README.write_text(wanted, encoding="utf-8")


def load(folder: Path) -> list[dict[str, Any]]:
    """The results in the order of their names; none of a shortened run."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    short = [result["benchmark"] for result in results if result["scale"] != 1.0]
    if short:
        raise ReadmeError(f"results of shortened runs: {', '.join(short)}; run `make bench` in full")
    return results


def render(results: list[dict[str, Any]]) -> str:
    """One row a bar, then where it was measured."""
    if not results:
        return "No figures yet: `make bench` measures them."
    lines = ["| benchmark | measured | asked for | met |", "|---|---|---|---|"]
    for result in results:
        for bar in result["bars"]:
            asked = f"{'≤' if bar['at_most'] else '≥'} {number(bar['limit'])} {bar['unit']}".rstrip()
            measured = f"{number(bar['value'])} {bar['unit']}".rstrip()
            lines.append(
                f"| {result['benchmark']}: {bar['what']} | {measured} | {asked} | {'yes' if bar['met'] else '**no**'} |"
            )
    machines = sorted({place(result["machine"]) for result in results})
    lines += [
        "",
        f"Measured on {'; '.join(machines)}. All contestants of a benchmark ran in the same run: `make bench`.",
    ]
    return "\n".join(lines)


def place(machine: dict[str, Any]) -> str:
    """The machine in a few words."""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']:g} GB, Python {machine['python']}"
    )


def number(value: float | None) -> str:
    """A figure to three digits, or whole from 100 on."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def with_table(
    text: str, table: str, *, marks: tuple[str, str] = (BEGIN, END), name: str = README.name
) -> str:
    """The text of a page, `name`, with the table between its marks."""
    first, last = marks
    before, begin, rest = text.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise ReadmeError(f"{name}: no place for the figures; put the lines {first!r} and {last!r} into it")
    return f"{before}{first}\n\n{table}\n\n{last}{after}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
