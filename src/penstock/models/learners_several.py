"""Several learners as one: the mean of their scores, the best of them, or the one that a bandit ranks first."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.models.online_state import dump, load
from penstock.models.published import Mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from penstock.models.learners import Learner
    from penstock.models.manifest import Task
    from penstock.models.published import Form

_LEAST = 1e-15


class EnsembleLearner:
    """All members learn everything; see `penstock.definitions.learning.Ensemble`."""

    def __init__(self, members: Mapping[str, Learner], *, choose: str, half_life: int, task: Task) -> None:
        self._members, self._mean, self._task = dict(members), choose == "mean", task
        self._decay = 0.5 ** (1.0 / half_life)
        self._losses = dict.fromkeys(self._members, 0.0)

    @property
    def problem(self) -> str:
        """Of all."""
        return problems_of(self._members)

    def learn(self, vectors: NDArray[np.float64], labels: NDArray[np.float64]) -> None:
        """Where the best is wanted, each is tested before it learns."""
        for name, member in self._members.items():
            if not self._mean:
                loss = mean_loss(member.score(vectors), labels, task=self._task)
                kept = self._decay ** len(labels)
                self._losses[name] = kept * self._losses[name] + (1 - kept) * loss
            member.learn(vectors, labels)

    def settle(self) -> None:
        """Of all."""
        for member in self._members.values():
            member.settle()

    def score(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """The mean, or the best one's."""
        if not self._mean:
            return self._members[self.best].score(vectors)
        each = np.stack([member.score(vectors) for member in self._members.values()])
        mean: NDArray[np.float64] = each.mean(axis=0)
        return mean

    @property
    def best(self) -> str:
        """The member with the smallest loss; of equal ones the first."""
        return min(self._losses, key=self._losses.__getitem__)

    def sound(self, vectors: NDArray[np.float64]) -> bool:
        """Whether all are."""
        finite = bool(np.isfinite(list(self._losses.values())).all())
        return finite and all(member.sound(vectors) for member in self._members.values())

    def form(self) -> Form:
        """Of the best, or of all."""
        if not self._mean:
            return self._members[self.best].form()
        return Mean(tuple(member.form() for member in self._members.values()))

    def keep(self) -> bytes:
        """Of all."""
        return dump(({name: member.keep() for name, member in self._members.items()}, self._losses))

    def go_back(self, kept: bytes) -> None:
        """All."""
        members, self._losses = load(kept)
        for name, member in self._members.items():
            member.go_back(members[name])


class BanditLearner:
    """One member learns each batch; see `penstock.definitions.learning.Bandit`."""

    def __init__(self, members: Mapping[str, Learner], *, policy: Any, task: Task) -> None:
        self._members, self._policy, self._task = dict(members), copy.deepcopy(policy), task

    @property
    def problem(self) -> str:
        """Of all."""
        return problems_of(self._members)

    def learn(self, vectors: NDArray[np.float64], labels: NDArray[np.float64]) -> None:
        """The policy's choice is tested, rewarded, and taught."""
        chosen = self._policy.pull(list(self._members))
        member = self._members[chosen]
        self._policy.update(chosen, -mean_loss(member.score(vectors), labels, task=self._task))
        member.learn(vectors, labels)

    def settle(self) -> None:
        """Of all."""
        for member in self._members.values():
            member.settle()

    def score(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """The scores of the one that is ranked first."""
        return self._members[self.best].score(vectors)

    @property
    def best(self) -> str:
        """The member that the policy ranks first; before the first batch the first."""
        ranking = self._policy.ranking
        return str(ranking[0]) if len(ranking) else next(iter(self._members))

    def sound(self, vectors: NDArray[np.float64]) -> bool:
        """Whether all are."""
        return all(member.sound(vectors) for member in self._members.values())

    def form(self) -> Form:
        """Of the one that is ranked first."""
        return self._members[self.best].form()

    def keep(self) -> bytes:
        """Of all, and the policy."""
        return dump(({name: member.keep() for name, member in self._members.items()}, self._policy))

    def go_back(self, kept: bytes) -> None:
        """All, and the policy."""
        members, self._policy = load(kept)
        for name, member in self._members.items():
            member.go_back(members[name])


def problems_of(members: Mapping[str, Learner]) -> str:
    """What is wrong with which of them."""
    return "; ".join(f"{name}: {member.problem}" for name, member in members.items() if member.problem)


def mean_loss(scores: NDArray[np.float64], labels: NDArray[np.float64], *, task: Task) -> float:
    """Log loss, or the mean square of the errors.

    >>> round(mean_loss(np.array([0.9, 0.2]), np.array([1.0, 0.0]), task="binary"), 4)
    0.1643
    """
    if task == "regression":
        return float(np.mean((scores - labels) ** 2))
    right = np.clip(np.where(labels > 0, scores, 1.0 - scores), _LEAST, 1.0)
    return float(-np.mean(np.log(right)))
