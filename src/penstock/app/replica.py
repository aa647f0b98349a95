"""A project as a replica has it: definitions, models and routes, and a Redis in which an engine publishes states; no log and no state."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from penstock.app.publishing import namespace_of
from penstock.app.routing import Routes, endpoint_named
from penstock.app.runtime import audit_log_of, card_tokens_of, plan_of, registry_of
from penstock.app.settings import Settings, load_settings
from penstock.app.storing import state_folder
from penstock.core.clock import Clock, SystemClock
from penstock.core.errors import PenstockError, SettingsError
from penstock.definitions.project import Project, load_project
from penstock.engine.contract import Contract
from penstock.engine.online import OnlineReader
from penstock.engine.previews import Preview, previews, with_refused
from penstock.engine.replica import Replica

if TYPE_CHECKING:
    from penstock.engine.ports import BlobReader

LOOK_EVERY_S = 1.0


class ReplicaRuntime:
    """What a replica answers with; use it as a context manager.

    Parameters
    ----------
    project, settings, clock, blobs
        The definitions, the settings, the time, and where states are published.

    Attributes
    ----------
    online
        Features by key, now.
    problems
        What does not work though it answers: by endpoint why its model does not serve.
    """

    def __init__(self, project: Project, *, settings: Settings, clock: Clock, blobs: BlobReader) -> None:
        self.project, self.settings, self.clock = project, settings, clock
        self.plan = plan_of(project)
        self.problems: dict[str, str] = {}
        self.routes = Routes(
            self.plan, registry_of(project.root, clock=clock), audit_log_of(project.root, clock=clock)
        )
        online = settings.online
        self.replica = Replica(
            self.plan,
            blobs,
            namespace=namespace_of(online.namespace, project.name),
            clock=clock,
            fresh_s=online.fresh_s,
            refuse=online.when_away == "refuse",
        )
        tokens = card_tokens_of(project.root)
        self.online = OnlineReader(self.replica, clock, tokens=tokens)
        self._contracts = {name: Contract(node, tokens=tokens) for name, node in self.plan.sources.items()}
        self._stop = threading.Event()
        self._watch = threading.Thread(target=self._follow_routes, name="penstock-routes", daemon=True)

    @classmethod
    def open(cls, root: Path | str, *, clock: Clock | None = None) -> Self:
        """The replica of the project in `root`; raises `SettingsError` where its settings do not name a Redis."""
        from penstock.stores.redis_blobs import RedisBlobs

        path = Path(root)
        settings, project = load_settings(path), load_project(path)
        if settings.online.url is None:
            raise SettingsError(
                "replica: [online] of penstock.toml names no Redis. Set its url, for the engine and for replicas."
            )
        blobs = RedisBlobs(settings.online.url, timeout_s=settings.online.timeout_ms / 1000)
        made = cls(project, settings=settings, clock=clock or SystemClock(), blobs=blobs)
        made.check_tokens()
        return made

    def __enter__(self) -> Self:
        self.routes.load(self.problems)
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._watch.join()

    def check_tokens(self) -> None:
        """Raise `SettingsError` where cards are known by tokens whose key is not here: it would find no card."""
        needed = any(node.card_numbers == "tokenise" for node in self.plan.sources.values())
        key = state_folder(self.project.root) / "card_tokens.key"
        if needed and not key.is_file():
            raise SettingsError(
                f"replica: a source replaces card numbers by tokens, and {key.name} of the engine's {key.parent.name} is not here. "
                "Copy it."
            )

    def preview(self, endpoint: str, events: bytes, *, with_features: bool = False) -> list[Preview]:
        """What the endpoint would decide on events, given as NDJSON, if they came now; one answer each."""
        node = endpoint_named(self.plan, endpoint)
        decoded = self._contracts[node.source].decode_json(events)
        made: list[Preview] = []
        if decoded.columns.length:
            made = previews(
                self.replica, node, self.routes[node.name], decoded.columns, with_features=with_features
            )
        return with_refused(made, decoded.rows.tolist(), decoded.refused)

    def _follow_routes(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            try:
                if self.routes.stale():
                    self.routes.load(self.problems)
            except PenstockError as error:
                self.problems["routes"] = str(error)
