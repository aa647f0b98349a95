"""HTTP requests in numbers: by the template of their route, never by their path."""

from __future__ import annotations

from collections import Counter
from threading import Lock

from penstock.monitoring.buckets import LATENCY_S, Buckets

MOST_ROUTES = 500
OTHER = "(other)"


class RequestCounts:
    """Counts answered requests; a request costs about a microsecond.

    Examples
    --------
    >>> requests = RequestCounts()
    >>> requests.add("/v1/endpoints/{endpoint}/score", "POST", 200, 0.0012)
    >>> requests.totals()[0]
    Counter({('/v1/endpoints/{endpoint}/score', 'POST', '2xx'): 1})
    """

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._seconds: dict[str, Buckets] = {}
        self._lock = Lock()

    def add(self, route: str | None, method: str, status: int, seconds: float) -> None:
        """Count a request: the template of its route (None: there was none), and how long it took."""
        with self._lock:
            if route is None or (route not in self._seconds and len(self._seconds) >= MOST_ROUTES):
                route = method = OTHER
            if route not in self._seconds:
                self._seconds[route] = Buckets(LATENCY_S)
            self._counts[route, method, f"{status // 100}xx"] += 1
            self._seconds[route].add(seconds)

    def totals(self) -> tuple[Counter[tuple[str, str, str]], dict[str, Buckets]]:
        """Requests by route, method and class of status; durations by route."""
        with self._lock:
            return self._counts.copy(), {route: one.copy() for route, one in self._seconds.items()}
