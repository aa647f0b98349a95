"""Recording the data set that a model is trained on."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from penstock.app.dataset_rows import Question
from penstock.app.datasets import record_dataset
from penstock.app.settings import load_settings
from penstock.core.clock import SystemClock
from penstock.core.errors import StoreError

if TYPE_CHECKING:
    from penstock.definitions.models import Model
    from penstock.definitions.project import Project
    from penstock.engine.history import LoggedFeatures
    from penstock.engine.ports import LogReader
    from penstock.plan.nodes import Plan


def recorded(
    project: Project,
    plan: Plan,
    model: Model,
    logged: LoggedFeatures,
    *,
    log: LogReader,
    as_of: str,
    stop: int,
    start_us: int | None = None,
    end_us: int | None = None,
    tell: Callable[[str], None],
) -> str | None:
    """Record the features of events before position `stop`, and their labels; the data set's id.

    Event times are from `start_us` inclusive to `end_us` exclusive; None: all.

    None where the settings turn the offline store off or deltalake is not installed, and where the tables cannot be
    written, which `tell` is told: a model may be trained without a record.
    """
    assert model.label is not None, "what is trained on a data set has labels"
    settings = load_settings(project.root).offline
    if not settings.export or find_spec("deltalake") is None:
        return None
    try:
        made = record_dataset(
            project.root,
            model.features.name,
            Question(as_of=as_of, position=stop, label=model.label.name, start_us=start_us, end_us=end_us),
            clock=SystemClock(),
            project=project,
            log=log,
            parts=[_in_rows_order(plan, model, logged, as_of)],
        )
    except StoreError as error:
        tell(f"{model.name}: the data set is not recorded: {error}")
        return None
    return made.id


def _in_rows_order(plan: Plan, model: Model, logged: LoggedFeatures, as_of: str) -> LoggedFeatures:
    """In the order of a data set's rows: the log's, or event time's."""
    if as_of == "served":
        return logged
    source = plan.sources[plan.services[model.features.name].source]
    times = logged.events[source.time_field].values.astype(np.int64)  # type: ignore[union-attr]
    return logged.take(np.lexsort((logged.positions, times)))
