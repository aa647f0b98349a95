"""What a change of definitions does to endpoints that decide: shown before it is applied, refused where it would harm.

An endpoint is live while a version of its model is in Production. Of such a one

- the endpoint is not taken away: its events would go without a decision;
- its place is not taken by a model that has no version in Production to serve it;
- the labels that its decisions wait for can still be taken in.

Archiving the version says that its time is over, and allows all of this.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from penstock.models.registry import ModelRegistry, ModelVersion
from penstock.plan.describe import Description
from penstock.stores.reader import ProjectReader


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointChange:
    """What becomes of an endpoint.

    Attributes
    ----------
    text
        In one line.
    decisions
        How many it has made.
    refused
        Why it cannot be applied, and what to do first; empty where it can.
    """

    endpoint: str
    text: str
    decisions: int = 0
    refused: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)


def endpoint_changes(
    before: Description,
    after: Description,
    *,
    labels: Mapping[str, str],
    registry: ModelRegistry,
    store: ProjectReader | None,
) -> tuple[EndpointChange, ...]:
    """What becomes of the endpoints of `before` that `after` has not, or not as they were.

    `labels` are the label sources of the models afterwards; `store` is None where nothing ran yet.
    """
    comparison = _Comparison(before, after, labels, registry)
    counts = {} if store is None else store.decision_counts()
    changes = (comparison.change(old, counts.get(old["name"], 0)) for old in before["endpoints"])
    return tuple(change for change in changes if change.text)


@dataclass(frozen=True, slots=True)
class _Comparison:
    before: Description
    after: Description
    labels: Mapping[str, str]
    registry: ModelRegistry

    def change(self, old: Description, decisions: int) -> EndpointChange:
        """What becomes of an endpoint that made so many decisions."""
        refused = " ".join([*self._displaced(old), *(self._waiting(old) if decisions else ())])
        text = self.text(old, decisions)
        return EndpointChange(endpoint=old["name"], text=text, decisions=decisions, refused=refused)

    def text(self, old: Description, decisions: int) -> str:
        """What becomes of an endpoint; empty where it stays as it is."""
        name, source = old["name"], old["source"]
        new = self._successor(old)
        lost = self._lost_labels(source) if decisions else []
        if new is None:
            said = f"endpoint {name} is gone: events of {source} get no decision any more"
        elif new["model"] != old["model"]:
            said = f"endpoint {name}: model {new['model']} decides in place of {old['model']}"
        elif new["name"] != name:
            said = f"endpoint {name} is named {new['name']} from now on; what it decided keeps the old name"
        else:
            said = f"endpoint {name}" if lost else ""
        return said + "".join(
            f"; labels of {label} for its {decisions:,} decisions are not taken in any more" for label in lost
        )

    def _displaced(self, old: Description) -> Iterator[str]:
        """Why the version that serves an endpoint may not lose its place."""
        serving = self._serving(old["model"])
        if serving is None:
            return
        new = self._successor(old)
        done = f"archive {serving.label} first (penstock registry archive), if its time is over"
        if new is None:
            yield (
                f"endpoint {old['name']!r}: {serving.label} is in Production behind it, and events of {old['source']!r} would get "
                f"no decision. Keep an endpoint for {old['source']!r}, or {done}."
            )
        elif new["model"] != old["model"] and self._serving(new["model"], _service_of(new)) is None:
            yield (
                f"endpoint {new['name']!r}: {serving.label} is in Production behind it, and no version of {new['model']!r} in "
                f"Production could take its place. Define the model {new['model']!r} without the endpoint, apply, train and promote "
                f"a version, then point the endpoint at it; or {done}."
            )

    def _waiting(self, old: Description) -> Iterator[str]:
        """Why label sources may not go: versions are in use whose decisions may still get labels of them."""
        in_use = [v.label for v in self._left_over()]
        new = self._successor(old)
        if new is not None and new["model"] == old["model"] and (own := self._serving(old["model"])):
            replaced = self.labels.get(old["model"]) not in _labels_of(self.before, old["source"])
            in_use += [own.label] * replaced
        for label in self._lost_labels(old["source"]) if in_use else ():
            yield (
                f"endpoint {old['name']!r}: its decisions may still get labels of {label!r}, which could not be taken in any more, and "
                f"{', '.join(in_use)} is in Production. Keep a model or view that uses {label!r} until they are there, or archive "
                f"{', '.join(in_use)} first (penstock registry archive)."
            )

    def _left_over(self) -> list[ModelVersion]:
        """Versions in Production of models that no endpoint has afterwards."""
        served = {endpoint["model"] for endpoint in self.after["endpoints"]}
        names = [name for name in self.registry.names() if name not in served]
        return [version for name in names if (version := self._serving(name))]

    def _successor(self, old: Description) -> Description | None:
        """The endpoint that decides on the same events afterwards."""
        same_source = (new for new in self.after["endpoints"] if new["source"] == old["source"])
        return next(same_source, None)

    def _lost_labels(self, stream: str) -> list[str]:
        kept = _labels_of(self.after, stream)
        return [name for name in _labels_of(self.before, stream) if name not in kept]

    def _serving(self, model: str, service: str | None = None) -> ModelVersion | None:
        """The version of a model in Production; with `service` one that the definitions afterwards can serve."""
        fingerprints = _fingerprints(self.after)
        for version in self.registry.versions(model) if model in self.registry.names() else ():
            fits = service is None or version.manifest().service_fingerprint == fingerprints.get(service)
            if version.stage == "Production" and fits:
                return version
        return None


def _service_of(endpoint: Description) -> str:
    """The service of the model that an endpoint is named for; the endpoint's own may have more features."""
    services = [arm["service"] for arm in endpoint["arms"] if arm["model"] == endpoint["model"]]
    return str(services[0] if services else endpoint["service"])


def _labels_of(description: Description, stream: str) -> Collection[str]:
    return [source["name"] for source in description["sources"] if source["label_of"] == stream]


def _fingerprints(description: Description) -> Mapping[str, str]:
    return {service["name"]: service["fingerprint"] for service in description["services"]}
