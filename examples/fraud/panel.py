"""The live panel: a few lines that redraw themselves on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table

from penstock.core.time import from_us

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from penstock.app.metering import Meter

WIDTH = 80
REDRAW_S, LINE_S = 0.1, 2.0


class LivePanel:
    """Shows a meter while a stream runs.

    Parameters
    ----------
    console
        Where to.
    meter
        What is shown.
    total
        Events until the end.
    """

    def __init__(self, console: Console, meter: Meter, *, total: int) -> None:
        self._console = console
        self._meter = meter
        self._total = total
        self._next_s = 0.0
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, done: int, time_us: int, *, force: bool = False) -> None:
        """Show the figures after `done` events, the newest of `time_us`, if it is time to."""
        now = perf_counter()
        if now < self._next_s and not force:
            return
        self._next_s = now + (REDRAW_S if self._live else LINE_S)
        if self._live is not None:
            self._live.update(self._panel(done, time_us), refresh=True)
        else:
            self._console.print(self._line(done, time_us), highlight=False, soft_wrap=True)

    def _panel(self, done: int, time_us: int) -> RenderableType:
        live, quality = self._meter.summary()
        grid = Table.grid(padding=(0, 2))
        left = (
            ("events", f"{done:,} of {self._total:,}"),
            ("events/s", f"{live.recent_events_per_s:,.0f} (mean {live.events_per_s:,.0f})"),
            ("latency", f"p50 {_ms(live.p50_s)}, p99 {_ms(live.p99_s)}"),
            ("late", f"{live.late:,}, twice {live.duplicate:,}, bad {live.rejected:,}"),
        )
        right = (
            ("precision", f"{_figure(quality.average_precision)} on average, so far"),
            ("frauds", "–" if quality.positive_rate is None else f"{quality.positive_rate:.2%} of labelled"),
            ("alerts", ", ".join(f"{n:,} {a}" for a, n in live.actions.items() if a != "approve") or "none"),
            ("labels", f"{quality.labelled:,}, pending {quality.pending:,}"),
        )
        for (a, b), (c, d) in zip(left, right, strict=True):
            grid.add_row(f"[dim]{a}[/]", b, f"[dim]{c}[/]", d)
        outer = Table.grid(expand=True)
        outer.add_row(ProgressBar(total=max(self._total, 1), completed=done, width=WIDTH - 4))
        outer.add_row(grid)
        return Panel(outer, title=f"live, {from_us(time_us):%Y-%m-%d %H:%M}", width=WIDTH)

    def _line(self, done: int, time_us: int) -> str:
        live, quality = self._meter.summary()
        return (
            f"{from_us(time_us):%Y-%m-%d}  {done:>9,} events  {live.recent_events_per_s:>7,.0f}/s  "
            f"p50 {_ms(live.p50_s)} p99 {_ms(live.p99_s)}  {live.alerts:,} alerts  "
            f"AP {_figure(quality.average_precision)}  {quality.pending:,} labels pending"
        )


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1000:.3g} ms"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
