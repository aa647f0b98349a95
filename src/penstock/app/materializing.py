"""Taking the new rows of a batch table in, once: what `penstock materialize` does."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from threading import Event
from typing import TYPE_CHECKING, Any

from penstock.app.batch_inputs import BatchInput, batch_inputs
from penstock.app.change_inputs import ChangeInput
from penstock.app.running import Runner, Watch
from penstock.core.errors import NotFoundError
from penstock.definitions.batch_views import BatchFeatureView

if TYPE_CHECKING:
    from penstock.app.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Materialized:
    """What became of the rows of a source that were read: ``received = logged + duplicate + rejected``.

    `waiting` are those whose time has not come; rows of files that have not changed are not read.
    """

    source: str
    received: int
    logged: int
    duplicate: int
    rejected: int
    waiting: int

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def chosen_inputs(runtime: Runtime, name: str | None) -> list[BatchInput | ChangeInput]:
    """The batch table that is, or feeds, what is called `name`; all of them where it is None.

    Raises `NotFoundError` where the plan has no batch source or view of that name.
    """
    inputs = batch_inputs(runtime)
    if name is None:
        return inputs
    views = [v for v in runtime.project.views.values() if isinstance(v, BatchFeatureView)]
    sources = {name, *(view.source.name for view in views if view.name == name)}
    found = [one for one in inputs if one.source in sources]
    if not found:
        known = [one.source for one in inputs]
        known += [view.name for view in views if view.source.name in known]
        raise NotFoundError(
            f"materialize: the plan has no batch source or view {name!r}; it has {', '.join(known) or 'none'}. A source is in "
            "the plan when a service uses it."
        )
    return found


def materialize_one(
    runtime: Runtime, one: BatchInput | ChangeInput, *, stop: Event, watch: Watch | None = None
) -> Materialized:
    """Read one table and take its new rows in; durable on return."""
    summary = Runner(runtime, [one], stop=stop, watch=watch).run()
    return Materialized(
        one.source,
        received=summary.received,
        logged=summary.logged,
        duplicate=summary.duplicate,
        rejected=summary.rejected,
        waiting=one.waiting,
    )
