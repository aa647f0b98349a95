"""By which thresholds each decision is judged: those that its version brought along."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from penstock.app.routing import thresholds_in_force, thresholds_of
from penstock.core.errors import NotFoundError

if TYPE_CHECKING:
    import numpy.typing as npt

    from penstock.engine.decisions import Decisions
    from penstock.models.registry import ModelRegistry
    from penstock.plan.nodes import EndpointNode


class VersionThresholds:
    """The thresholds of an endpoint's actions by model version.

    Parameters
    ----------
    endpoint
        Whose actions they are.
    registry
        Where versions say what thresholds were chosen for them.
    """

    def __init__(self, endpoint: EndpointNode, registry: ModelRegistry) -> None:
        self._endpoint, self._registry = endpoint, registry
        self._known: dict[str, tuple[float, ...]] = {}

    @property
    def in_force(self) -> tuple[float, ...]:
        """Those of the first arm's version now."""
        return thresholds_in_force(self._endpoint, self._registry)

    def of(self, version: str) -> tuple[float, ...]:
        """Those of a version, as ``NAME:VERSION``, also with labels behind; the policy's own for one that is not registered."""
        label = version.partition("+")[0]
        if label not in self._known:
            self._known[label] = self._brought(label) or self._endpoint.thresholds
        return self._known[label]

    def by_row(self, decisions: Decisions) -> npt.NDArray[np.float64] | None:
        """float64[n, actions]: those of each decision; None where all versions are held to the policy's own."""
        if not self._endpoint.chosen:
            return None
        each = np.array([self.of(arm.version) for arm in decisions.arms])
        by = np.zeros(len(decisions), np.uint8) if decisions.by is None else decisions.by
        found: npt.NDArray[np.float64] = each[by]
        return found

    def _brought(self, label: str) -> tuple[float, ...] | None:
        name, _, number = label.partition(":")
        if not number:
            return None
        try:
            chosen = self._registry.get(name, number).manifest().chosen_thresholds
        except NotFoundError:
            return None
        return thresholds_of(self._endpoint, chosen)
