"""Reasons for decisions: what a version's score was made of, in the words of the definitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import structs

from penstock.app.runtime import plan_of, registry_of
from penstock.core.errors import ModelError, NotFoundError
from penstock.core.time import format_duration, to_us
from penstock.core.types import Bool
from penstock.definitions.aggregates import Aggregate, windows_of
from penstock.definitions.project import load_project
from penstock.definitions.services import FeatureService
from penstock.definitions.views import Attribute
from penstock.definitions.windows import LifetimeWindow
from penstock.engine.decisions import Flag
from penstock.models.attribution import Explainer
from penstock.models.reasons import Reason, Words, reasons_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.app.runtime import Runtime
    from penstock.engine.answers import Answer
    from penstock.engine.provenance import Provenance
    from penstock.models.registry import ModelVersion

_FUNCTIONS = {
    "count": "number of {} values",
    "sum": "total {}",
    "mean": "average {}",
    "min": "smallest {}",
    "max": "largest {}",
    "count_distinct": "number of different {} values",
    "first": "first {}",
    "last": "last {}",
    "stddev": "spread of {}",
    "variance": "spread (squared) of {}",
}

_TOLERANCE = 1e-6

_OF_BOOLS = {"count": "number of known {}", "sum": "number of {}", "mean": "share of {}"}


@dataclass(frozen=True, slots=True)
class Explained:
    """A score taken apart.

    Attributes
    ----------
    space
        In which the contributions add up: ``log-odds``, ``logarithm`` or ``score``.
    base, total
        What the model says of an average row, and of this one, in that space: the contributions add up to the difference.
    score
        What they come to; the served score, within 1e-6.
    reasons
        All features, the weightiest first.
    """

    model: str
    space: str
    base: float
    total: float
    score: float
    reasons: tuple[Reason, ...]

    def to_dict(self) -> dict[str, Any]:
        """The explanation as JSON values."""
        return asdict(self)


class Reasoner:
    """Reasons for the scores of one version, for one event or for many, such as the alerts of a batch.

    Parameters
    ----------
    version
        As registered, with its files.
    service
        Whose features it takes.

    Raises
    ------
    ModelError
        Where the version cannot be explained: see `Explainer`.
    """

    def __init__(self, version: ModelVersion, service: FeatureService) -> None:
        files = version.files()
        if files.manifest.engine == "online":
            raise ModelError(
                f"model {version.label!r} goes on learning, and the copy that scored an event is not kept, so its score cannot be "
                "explained. Train a model that does not learn on to have reasons."
            )
        self._label = version.label
        self.features = files.manifest.feature_names
        self._explainer = Explainer(files)
        known = words_of(service)
        self._words = [known.get(name, Words(name.rpartition(".")[2])) for name in self.features]

    def explain(self, vectors: NDArray[np.float64], *, top: int | None = None) -> list[Explained]:
        """One explanation a row of `vectors`, float64 [n, features]; `top` reasons each, None: all."""
        attribution = self._explainer.explain(vectors)
        scores = attribution.scores()
        return [
            Explained(
                model=self._label,
                space=attribution.space,
                base=attribution.base,
                total=attribution.base + float(attribution.values[row].sum()),
                score=float(scores[row]),
                reasons=reasons_of(
                    attribution,
                    row,
                    vectors[row],
                    features=self.features,
                    words=self._words,
                    quantiles=self._explainer.quantiles,
                    top=top,
                ),
            )
            for row in range(len(vectors))
        ]


class Reasoners:
    """Reasons for the answers of a running project; what is needed for a version is kept while it serves."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._known: dict[tuple[str, str], Reasoner | None] = {}

    def with_reasons(
        self, endpoint: str, answers: Sequence[Answer], *, top: int = 5, features: bool = False
    ) -> list[Answer]:
        """`answers`, which hold the values of the features, with the weightiest reasons; with or without the values.

        What cannot be explained (a version that goes on learning, an event that no model scored) has none.
        """
        return [
            structs.replace(
                answer,
                reasons=self._reasons(endpoint, answer, top),
                features=answer.features if features else None,
            )
            for answer in answers
        ]

    def _reasons(self, endpoint: str, answer: Answer, top: int) -> list[dict[str, Any]] | None:
        if answer.model is None or answer.features is None:
            return None
        reasoner = self._reasoner(endpoint, answer.model)
        if reasoner is None or not answer.features.keys() >= set(reasoner.features):
            return None
        values = [answer.features[name] for name in reasoner.features]
        vector = np.array([[np.nan if value is None else value for value in values]], np.float64)
        return [asdict(reason) for reason in reasoner.explain(vector, top=top)[0].reasons]

    def _reasoner(self, endpoint: str, label: str) -> Reasoner | None:
        key = endpoint, label
        if key not in self._known:
            name, _, version = label.partition("+")[0].partition(":")
            service = self._runtime.project.endpoints[endpoint].features
            try:
                self._known[key] = Reasoner(self._runtime.registry.get(name, version), service)
            except (ModelError, NotFoundError):
                self._known[key] = None
        return self._known[key]


def reasons_for(root: Path, found: Provenance) -> tuple[Explained | None, str]:
    """What the score of a decision was made of, by the version that scored it; or None and why that cannot be said."""
    decision = found.decision
    label = "" if decision is None else decision.decided_by(0).version
    if decision is None or not label:
        return None, "no model scored it"
    if int(decision.flags[0]) & Flag.ERASED:
        return None, "it was forgotten"
    name, _, version = label.partition("+")[0].partition(":")
    project = load_project(root)
    service = project.endpoints[found.endpoint.name].features
    try:
        registered = registry_of(root).get(name, version)
        reasoner = Reasoner(registered, service)
    except (ModelError, NotFoundError) as error:
        return None, str(error)
    trained = registered.manifest().service_fingerprint
    columns = plan_of(project).columns_of(found.endpoint.name, logged=decision.service, wanted=trained)
    if columns is None:
        return None, f"{label} was trained on other features than it was served"
    explained = reasoner.explain(np.ascontiguousarray(decision.vectors[:1, list(columns)]))[0]
    if not abs(explained.score - float(decision.scores[0])) <= _TOLERANCE:
        return (
            None,
            f"{label} gives {explained.score:.6g} for the logged features, not the logged score",
        )
    return explained, ""


def words_of(service: FeatureService) -> dict[str, Words]:
    """How each feature of a service (``view.feature``) is called: its description, or made of its definition."""
    found: dict[str, Words] = {}
    for reference in service.features:
        of_view = {feature.name: feature for feature in reference.view.features}
        for name, dtype in reference.feature_types.items():
            feature = of_view.get(name)
            phrase = name if feature is None else phrase_of(feature)
            found[f"{reference.name}.{name}"] = Words(phrase, is_bool=dtype is Bool)
    return found


def phrase_of(feature: Aggregate | Attribute) -> str:
    """How a feature is called where people read it.

    >>> from datetime import timedelta
    >>> from penstock.types import Field, Float64
    >>> phrase_of(Aggregate(Field("amount", Float64), "mean", time_window=timedelta(hours=1)))
    'average amount in the last 1h'
    >>> phrase_of(Attribute("ratio", Float64, description="amount against the card's usual one"))
    "amount against the card's usual one"
    """
    if feature.description:
        return feature.description
    if isinstance(feature, Attribute):
        return feature.name.replace("_", " ")
    column = feature.input_column.name.replace("_", " ")
    known = _FUNCTIONS | _OF_BOOLS if feature.input_column.dtype is Bool else _FUNCTIONS
    what = known.get(str(feature.function), f"{str(feature.function).replace('_', ' ')} of {{}}").format(
        column
    )
    where = f" where {feature.where.replace('_', ' ')}" if feature.where else ""
    return f"{what}{where} {_when(feature)}"


def _when(feature: Aggregate) -> str:
    if isinstance(feature.time_window, LifetimeWindow):
        return "ever"
    longest = windows_of(feature.time_window)[-1]
    until = f", up to {format_duration(-to_us(longest.offset))} ago" if longest.offset else ""
    return f"in the last {format_duration(to_us(longest.window_size))}{until}"
