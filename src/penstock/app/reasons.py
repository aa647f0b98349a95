"""Reasons for decisions: what a version's score was made of, in the words of the definitions."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import structs

from penstock.app.reason_words import words_of
from penstock.app.runtime import learned_path, plan_of, registry_of
from penstock.core.errors import ArtifactError, ModelError, NotFoundError, PenstockError
from penstock.definitions.project import load_project
from penstock.definitions.services import FeatureService
from penstock.engine.decisions import Flag
from penstock.models.attribution import Explainer
from penstock.models.copies_log import kept_copies
from penstock.models.learned_attribution import LearnedExplainer
from penstock.models.learning_model import read_copy, served_from, states_of
from penstock.models.reasons import Reason, Words, reasons_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.app.runtime import Runtime
    from penstock.engine.answers import Answer
    from penstock.engine.provenance import Provenance
    from penstock.models.published import Published
    from penstock.models.registry import ModelRegistry, ModelVersion

PROBLEM = "reasons"
_TOLERANCE = 1e-6
_MOST_KEPT = 64
_AWAY_S = 30.0
"""For so long a registry that is away is not asked again."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Explained:
    """A score taken apart.

    Attributes
    ----------
    space
        In which the contributions add up: ``log-odds``, ``logarithm`` or ``score``; of a detector ``distance`` or ``raw score``.
    base, total
        What the model says of an average row, and of this one, in that space: the contributions add up to the difference.
    score
        What they come to; the served score, within 1e-6.
    reasons
        All features, the weightiest first.
    note
        What is to be known of it; empty where it is of the very model that decided.
    """

    model: str
    space: str
    base: float
    total: float
    score: float
    reasons: tuple[Reason, ...]
    note: str = ""

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
    copy
        Of a version that goes on learning, what it knew: its score is taken apart by that.

    Raises
    ------
    ModelError
        Where the version cannot be explained: see `Explainer` and `LearnedExplainer`.
    """

    def __init__(
        self, version: ModelVersion, service: FeatureService, *, copy: Published | None = None
    ) -> None:
        files = version.files()
        learns = files.manifest.engine == "online"
        if learns and copy is None:
            raise ModelError(
                f"model {version.label!r} goes on learning, and what it knew is not on this machine. Ask where the project runs."
            )
        self.label = version.label if copy is None else f"{version.label}+{copy.labels}"
        """The version, and of one that goes on learning the copy."""
        self._explainer: Explainer | LearnedExplainer
        if copy is None:
            self._explainer = Explainer(files)
        else:
            columns = len(files.manifest.feature_names)
            self._explainer = LearnedExplainer(copy.form, features=columns, name=self.label)
        self.features = files.manifest.feature_names
        known = words_of(service)
        self._words = [known.get(name, Words(name.rpartition(".")[2])) for name in self.features]

    def explain(self, vectors: NDArray[np.float64], *, top: int | None = None) -> list[Explained]:
        """One explanation a row of `vectors`, float64 [n, features]; `top` reasons each, None: all."""
        attribution = self._explainer.explain(vectors)
        scores = attribution.scores()
        return [
            Explained(
                model=self.label,
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
    """Reasons for what a running project decides; what is needed for a version is kept while it serves."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._known: OrderedDict[tuple[str, str], Reasoner | None] = OrderedDict()
        self._asked_again_s = 0.0

    def with_reasons(
        self, endpoint: str, answers: Sequence[Answer], *, top: int = 5, features: bool = False
    ) -> list[Answer]:
        """`answers`, which hold the values of the features, with the weightiest reasons; with or without the values.

        What cannot be explained (an event that no model scored, a model of a kind that has no reasons) has none.
        """
        return [
            structs.replace(
                answer,
                reasons=None
                if answer.features is None
                else self.of(endpoint, answer.model, answer.features, score=answer.score, top=top),
                features=answer.features if features else None,
            )
            for answer in answers
        ]

    def of(
        self,
        endpoint: str,
        model: str | None,
        features: Mapping[str, float | None],
        *,
        score: float | None,
        top: int,
    ) -> list[dict[str, Any]] | None:
        """The weightiest reasons for the `score` that a version gave, each with the version that it is of; None where there are none.

        What does not add up to the score that was served is no reason for it: it is left out, counted and told of. So are reasons
        that cannot be computed.
        """
        reasoner = None if model is None else self._reasoner(endpoint, model)
        if reasoner is None or not features.keys() >= set(reasoner.features):
            return None
        values = [features[name] for name in reasoner.features]
        vector = np.array([[np.nan if value is None else value for value in values]], np.float64)
        try:
            explained = reasoner.explain(vector, top=top)[0]
        except PenstockError as error:
            self._withhold(endpoint, reasoner.label, str(error))
            return None
        if reasoner.label == model and not _fits(explained, score):
            self._withhold(
                endpoint, reasoner.label, f"they come to {explained.score:.6g}, and {score} was served"
            )
            return None
        return [{**asdict(reason), "model": reasoner.label} for reason in explained.reasons]

    def _withhold(self, endpoint: str, label: str, why: str) -> None:
        withheld = self._runtime.withheld_reasons
        withheld[endpoint] += 1
        if withheld[endpoint] == 1:
            _log.warning("no reasons for %s: %s", label, why)
        self._runtime.problems[PROBLEM] = (
            f"endpoint {endpoint}: {withheld[endpoint]} decisions since the start are told without reasons, which do not fit; "
            f"the newest: {label}, {why}"
        )

    def _reasoner(self, endpoint: str, label: str) -> Reasoner | None:
        key = endpoint, label
        if key not in self._known:
            if time.monotonic() < self._asked_again_s:
                return None
            try:
                self._known[key] = self._made(endpoint, label)
            except PenstockError as error:  # a registry that is away holds up neither an answer nor an alert
                self._asked_again_s = time.monotonic() + _AWAY_S
                _log.warning("no reasons for %s: %s", label, error)
                return None
            while len(self._known) > _MOST_KEPT:
                self._known.popitem(last=False)
        return self._known[key]

    def _made(self, endpoint: str, label: str) -> Reasoner | None:
        runtime = self._runtime
        try:
            return reasoner_for(
                runtime.registry,
                runtime.project.endpoints[endpoint].features,
                label,
                states=learned_path(runtime.project.root, runtime.shard),
            )
        except (ModelError, NotFoundError):
            return None


def reasoner_for(registry: ModelRegistry, service: FeatureService, label: str, *, states: Path) -> Reasoner:
    """The reasons of the version that a decision names: ``NAME:VERSION``, and of one that goes on learning ``NAME:VERSION+LABELS``.

    The copy that had learned so many labels, as long as it is kept; else the newest one.
    """
    name, plus, labels = label.partition("+")
    model, _, version = name.partition(":")
    copy = _copy_as_of(states_of(states, name), int(labels)) if plus else None
    return Reasoner(registry.get(model, version), service, copy=copy)


def _copy_as_of(folder: Path, labels: int) -> Published | None:
    served = served_from(folder)
    found = (None if served is None else served.recent.of(labels)) or kept_copies(folder).of(labels)
    if found is not None:
        return found
    try:
        return read_copy(folder)
    except (FileNotFoundError, ArtifactError):
        return None


def reasons_for(root: Path, found: Provenance) -> tuple[Explained | None, str]:
    """What the score of a decision was made of, by the version that scored it; or None and why that cannot be said."""
    decision = found.decision
    label = "" if decision is None else decision.decided_by(0).version
    if decision is None or not label or int(decision.flags[0]) & Flag.ERASED:
        return None, "it was forgotten" if label else "no model scored it"
    project = load_project(root)
    service = project.endpoints[found.endpoint.name].features
    try:
        registry = registry_of(root)
        reasoner = reasoner_for(registry, service, label, states=learned_path(root))
        name, _, version = label.partition("+")[0].partition(":")
        trained = registry.get(name, version).manifest().service_fingerprint
    except (ModelError, NotFoundError) as error:
        return None, str(error)
    columns = plan_of(project).columns_of(found.endpoint.name, logged=decision.service, wanted=trained)
    if columns is None:
        return None, f"{label} was trained on other features than it was served"
    explained = reasoner.explain(np.ascontiguousarray(decision.vectors[:1, list(columns)]))[0]
    if reasoner.label != label:
        note = f"by {reasoner.label}: {label}, which decided, is not kept; now the score would be {explained.score:.6g}"
        return replace(explained, note=note), ""
    if not _fits(explained, float(decision.scores[0])):
        return (
            None,
            f"{label} gives {explained.score:.6g} for the logged features, not the logged score",
        )
    return explained, ""


def _fits(explained: Explained, score: float | None) -> bool:
    """Whether what the reasons come to is the score that was served."""
    return score is not None and abs(explained.score - score) <= _TOLERANCE
