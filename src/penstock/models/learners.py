"""Learners: one way to teach, score and publish whatever can go on learning, whichever library it is of.

Vectors are float64 with NaN for null; labels are finite. A learner belongs to one thread. Its state is the object itself: see
`penstock.models.online_state`. Equal steps on equal rows leave equal learners, whatever the process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from penstock.definitions.detectors import NearestNeighbours
from penstock.definitions.learning import Bandit, Ensemble

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from penstock.definitions.learning import Online
    from penstock.models.manifest import Task
    from penstock.models.published import Form

UNKNOWN_SCORE = 0.0
"""What is answered before the first label was learned."""


class Learner(Protocol):
    """Something that learns from labelled vectors and can say what it knows."""

    @property
    def problem(self) -> str:
        """What its newest fit failed of, though it goes on with what it knew; empty where all is well."""

    def learn(self, vectors: NDArray[np.float64], labels: NDArray[np.float64]) -> None:
        """Take a step.

        Parameters
        ----------
        vectors
            float64, shape [n, features].
        labels
            float64, shape [n]; 0 or 1 for a binary task. All of one class is a step as any other.
        """

    def settle(self) -> None:
        """A copy is due: estimators that only have ``fit`` may be fitted from here on."""

    def score(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores of rows by what is known now, float64, shape [n]."""

    def sound(self, vectors: NDArray[np.float64]) -> bool:
        """Whether all that it knows, or else its scores of `vectors`, is finite numbers."""

    def form(self) -> Form:
        """What scores as this learner does now, and never changes."""

    def keep(self) -> bytes:
        """What `go_back` needs to undo what is learned from here on; empty where nothing learned can do harm."""

    def go_back(self, kept: bytes) -> None:
        """Be as at the time of `keep`."""


def learner_of(estimator: Any, *, features: tuple[str, ...], task: Task, online: Online) -> Learner:
    """A learner that begins as `estimator` does; the estimator itself is left as it is.

    Parameters
    ----------
    estimator
        With ``learn_one`` (River), ``partial_fit`` or only ``fit`` (scikit-learn's way), an `Ensemble` or a `Bandit`.
        For anomalies a detector, whose scores are made probabilities of its own past ones.
    features
        The columns of a vector, in order.
    """
    if task == "anomaly":
        from penstock.models.learners_detectors import TailLearner, detector_of

        return TailLearner(detector_of(estimator, features=features, online=online), remembered=online.window)
    if isinstance(estimator, Ensemble | Bandit):
        from penstock.models.learners_several import BanditLearner, EnsembleLearner

        members = {
            name: learner_of(member, features=features, task=task, online=online)
            for name, member in estimator.members
        }
        if isinstance(estimator, Bandit):
            return BanditLearner(members, policy=estimator.policy, task=task)
        return EnsembleLearner(members, choose=estimator.choose, half_life=estimator.half_life, task=task)
    if hasattr(estimator, "learn_one"):
        from penstock.models.learners_river import RiverLearner

        return RiverLearner(estimator, features=features, task=task)
    from penstock.models import learners_sklearn

    if learners_sklearn.goes_on(estimator):
        return learners_sklearn.StepLearner(estimator, features=features, task=task)
    from penstock.models.learners_refitted import RefittedLearner

    return RefittedLearner(estimator, features=features, task=task, online=online)


def description(estimator: Any) -> str:
    """The estimator and its parameters in words that are the same in every process.

    >>> from sklearn.linear_model import SGDClassifier
    >>> description(SGDClassifier(alpha=0.5))[:27]
    'SGDClassifier {"alpha": 0.5'
    """
    import json

    from penstock.models.artifacts import parameters
    from penstock.models.manifest import json_value

    if isinstance(estimator, Ensemble | Bandit):
        inside = "; ".join(f"{name}: {description(member)}" for name, member in estimator.members)
        how = (
            vars_of(estimator.policy)
            if isinstance(estimator, Bandit)
            else f"{estimator.choose} {estimator.half_life}"
        )
        return f"{type(estimator).__name__} {how} ({inside})"
    if isinstance(estimator, NearestNeighbours):
        return repr(estimator)
    if hasattr(estimator, "learn_one"):
        return vars_of(estimator)
    found = parameters(estimator)
    return f"{found.pop('estimator')} {json.dumps(json_value(found), sort_keys=True, default=str)}"


def vars_of(thing: Any) -> str:
    """An object of River with the parameters that it was built with, and theirs."""
    parameters = getattr(thing, "_get_params", None)
    if parameters is None or isinstance(thing, type):
        if isinstance(thing, list | tuple):
            return f"[{', '.join(vars_of(one) for one in thing)}]"
        return getattr(thing, "__qualname__", None) or repr(thing)
    inside = ", ".join(f"{name}={vars_of(value)}" for name, value in sorted(parameters().items()))
    return f"{type(thing).__name__}({inside})"
