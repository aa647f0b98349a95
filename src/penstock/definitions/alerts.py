"""Alerts: who is told when an endpoint takes an action, or when one of its metrics leaves its bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from urllib.parse import urlsplit

from penstock.core.errors import DefinitionError
from penstock.core.types import check_name
from penstock.definitions.alert_lists import AddTo
from penstock.definitions.endpoints import Endpoint
from penstock.definitions.sources import check_not_negative
from penstock.definitions.tags import Tags, tags_of

Scalar = bool | int | float | str

STREAM_METRICS = ("alert_rate", "degraded_rate", "late_rate", "mean_score", "lag_s")
QUALITY_METRICS = {
    "binary": ("average_precision", "roc_auc", "log_loss", "brier", "calibration_error", "positive_rate"),
    "regression": ("mae", "rmse", "bias"),
    "anomaly": ("average_precision", "roc_auc", "positive_rate", "unevenness"),
}
DRIFT_METRICS = ("drifted_columns", "change_points")


MOST_REASONS = 20


@dataclass(frozen=True, slots=True, init=False)
class OnDecision:
    """Decisions of an endpoint that take one of some actions.

    Parameters
    ----------
    endpoint
        Whose decisions.
    action
        An action of its policy, or a list of them.
    where
        ``{column or feature: value or values}``, all of which must hold; features as they were served. A null is equal to nothing.

    Examples
    --------
    ::

        OnDecision(checkout, action="block", where={"country": ["DE", "FR"], "payment.is_night": True})
    """

    endpoint: Endpoint
    actions: tuple[str, ...]
    where: tuple[tuple[str, tuple[Scalar, ...]], ...]

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        action: str | Sequence[str],
        where: Mapping[str, Scalar | Sequence[Scalar]] | None = None,
    ) -> None:
        _check_endpoint(endpoint, owner="OnDecision")
        what = f"OnDecision of {endpoint.name!r}"
        known = (endpoint.policy.default, *(name for name, _ in endpoint.policy.actions))
        actions = (action,) if isinstance(action, str) else tuple(action)
        unknown = [name for name in actions if name not in known]
        if unknown or not actions:
            raise DefinitionError(
                f"{what}: action is {action!r}; allowed are those of policy {endpoint.policy.name!r}: {', '.join(known)}. "
                "Choose one, or a list of them."
            )
        object.__setattr__(self, "endpoint", endpoint)
        object.__setattr__(self, "actions", actions)
        object.__setattr__(self, "where", _conditions(where or {}, endpoint, owner=what))

    @property
    def text(self) -> str:
        """The condition in a few words."""
        where = "".join(f", {name} {' or '.join(map(str, values))}" for name, values in self.where)
        return f"{self.endpoint.name}: {' or '.join(self.actions)}{where}"


@dataclass(frozen=True, slots=True, init=False)
class OnMetric:
    """A metric of an endpoint that is too high, or too low.

    Parameters
    ----------
    endpoint
        Whose metric.
    metric
        ``alert_rate``, ``degraded_rate``, ``late_rate``: shares of the decisions; ``mean_score``; ``lag_s``: seconds from the newest
        event to now; of labelled decisions ``average_precision``, ``roc_auc``, ``log_loss``, ``brier``, ``calibration_error``,
        ``positive_rate``, or ``mae``, ``rmse`` and ``bias`` of a regression; ``drifted_columns`` at the newest look, and
        ``change_points`` that detectors found within the drift window.
    above, below
        The bound; one of the two.
    for_
        For how long it must be left without a break before anybody is told.
    window
        The newest stretch of event time that is measured: by default 10 minutes for rates, 7 days for quality, whose labels must have
        had their time; drift is measured over the `drift_window` of the endpoint's `Monitor`.
    at_least
        With fewer decisions (labels, for quality) in the window the metric is unknown, and changes nothing.
    of
        Only decisions of a version, an arm or a segment, in the words of ``penstock metrics --by``: ``{"version": "fraud:3"}``,
        ``{"arm": "challenger"}``, ``{"segment:country": "DE"}``. Not for drift, which is watched of the version in Production.

    Examples
    --------
    ::

        OnMetric(checkout, "alert_rate", above=0.05, for_=timedelta(minutes=5))
        OnMetric(checkout, "average_precision", below=0.5, of={"arm": "challenger"})
    """

    endpoint: Endpoint
    metric: str
    above: float | None
    below: float | None
    for_: timedelta
    window: timedelta
    at_least: int
    of: tuple[str, str] | None

    def __init__(
        self,
        endpoint: Endpoint,
        metric: str,
        *,
        above: float | None = None,
        below: float | None = None,
        for_: timedelta = timedelta(0),
        window: timedelta | None = None,
        at_least: int = 100,
        of: Mapping[str, Scalar] | None = None,
    ) -> None:
        _check_endpoint(endpoint, owner="OnMetric")
        what = f"OnMetric of {endpoint.name!r}"
        known = metrics_of(endpoint)
        if metric not in known:
            raise DefinitionError(
                f"{what}: metric is {metric!r}; allowed are {', '.join(known)}. Choose one."
            )
        bounds: list[object] = [bound for bound in (above, below) if bound is not None]
        if len(bounds) != 1 or not _is_finite(bounds[0]):
            raise DefinitionError(
                f"{what}: above is {above!r} and below is {below!r}; allowed is a finite number for one of them. Write for "
                "example above=0.05."
            )
        check_not_negative(for_, owner=what, argument="for_")
        chosen = default_window(metric) if window is None else window
        _check_span(chosen, owner=what, argument="window")
        least: object = at_least
        if isinstance(least, bool) or not isinstance(least, int) or least < 1:
            raise DefinitionError(
                f"{what}: at_least is {at_least!r}; allowed is a whole number of at least 1. Write for example at_least=100."
            )
        values = (
            ("endpoint", endpoint),
            ("metric", metric),
            ("above", None if above is None else float(above)),
            ("below", None if below is None else float(below)),
            ("for_", for_),
            ("window", chosen),
            ("at_least", at_least),
            ("of", None if of is None else _group(of, endpoint, metric, owner=what)),
        )
        for attribute, value in values:
            object.__setattr__(self, attribute, value)

    @property
    def bound(self) -> float:
        """The bound, whichever side it is on."""
        bound = self.below if self.above is None else self.above
        assert bound is not None
        return bound

    @property
    def text(self) -> str:
        """The condition in a few words."""
        side = "below" if self.above is None else "above"
        lasting = f" for {self.for_}" if self.for_ else ""
        whose = "" if self.of is None else f" of {self.of[0].removeprefix('segment:')} {self.of[1]}"
        return f"{self.endpoint.name}: {self.metric}{whose} {side} {self.bound:g}{lasting}"


@dataclass(frozen=True, slots=True)
class Webhook:
    """A receiver of signed HTTP requests (Standard Webhooks).

    Parameters
    ----------
    url
        Where to post; redirects are not followed.
    secret_env
        The environment variable with the secret: ``whsec_`` and base64 of 24 to 64 bytes. Several, with spaces between, all sign: so
        that a secret can be changed.
    timeout
        How long to wait for a connection, and for each part of the answer.
    """

    url: str
    secret_env: str
    timeout: timedelta = timedelta(seconds=10)

    def __post_init__(self) -> None:
        url: object = self.url
        parts = urlsplit(url if isinstance(url, str) else "")
        if (
            parts.scheme not in {"http", "https"}
            or not parts.hostname
            or "@" in parts.netloc
            or parts.fragment
        ):
            raise DefinitionError(
                f"Webhook: url is {self.url!r}; allowed is an http or https address without user, password and fragment. Write "
                'for example "https://cards.example/ban"; secrets belong into environment variables.'
            )
        _check_variable(self.secret_env, owner=f"Webhook to {parts.hostname}", argument="secret_env")
        _check_span(self.timeout, owner=f"Webhook to {parts.hostname}", argument="timeout")

    @property
    def name(self) -> str:
        """How deliveries name it: the address without what may be secret in its query."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{parts.path}"

    @property
    def variable(self) -> str:
        """The environment variable that it needs."""
        return self.secret_env


@dataclass(frozen=True, slots=True)
class Apprise:
    """People, told by SMS, e-mail or chat through Apprise (``penstock[alerts]``).

    Parameters
    ----------
    url_env
        The environment variable with one Apprise address, such as ``slack://…`` or ``mailto://…``.
    """

    url_env: str

    def __post_init__(self) -> None:
        _check_variable(self.url_env, owner="Apprise", argument="url_env")

    @property
    def name(self) -> str:
        """How deliveries name it: by its variable, since the address holds secrets."""
        return f"apprise:{self.url_env}"

    @property
    def variable(self) -> str:
        """The environment variable that it needs."""
        return self.url_env


Receiver = Webhook | Apprise | AddTo


@dataclass(frozen=True, slots=True, init=False)
class Alert:
    """Who is told when. Told at least once, off the path of the decision; see docs/alerts.md.

    Parameters
    ----------
    name
        The alert's name.
    on
        `OnDecision` or `OnMetric`.
    to
        Receivers: `Webhook`, `Apprise`; of decisions also `AddTo`, a list that the event's key is put on.
    include
        Columns of the event that are sent along (`OnDecision`). None is by default: events hold what concerns nobody else.
    reasons
        How many reasons for the score are sent along, in words and with the values of features (`OnDecision`); 0: none. What a rule decided
        names the rule in their place.
    group_by
        With `group_window`, decisions with the same values of these columns become one message.
    group_window
        How long a group is gathered from its first decision on; 0: each decision is a message of its own.
    repeat
        How often to tell again while a metric stays out of bounds; None: once.
    recover
        Whether to tell when a metric is back.
    give_up_after
        After how long a message that its receiver does not take is put aside: kept and shown, but not tried again by itself.

    Examples
    --------
    ::

        ban = Alert(
            "ban_card",
            on=OnDecision(checkout, action="block"),
            include=["card_id"],
            to=[Webhook("https://cards.example/ban", secret_env="CARDS_SECRET")],
        )
    """

    name: str
    on: OnDecision | OnMetric
    to: tuple[Receiver, ...]
    include: tuple[str, ...]
    reasons: int
    group_by: tuple[str, ...]
    group_window: timedelta
    repeat: timedelta | None
    recover: bool
    give_up_after: timedelta
    description: str
    owner: str
    tags: Tags

    def __init__(
        self,
        name: str,
        *,
        on: OnDecision | OnMetric,
        to: Sequence[Receiver],
        include: Sequence[str] = (),
        reasons: int = 3,
        group_by: Sequence[str] = (),
        group_window: timedelta = timedelta(0),
        repeat: timedelta | None = None,
        recover: bool = True,
        give_up_after: timedelta = timedelta(days=3),
        description: str = "",
        owner: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> None:
        what = f"Alert {check_name(name, what='Alert')!r}"
        _check_on(on, owner=what)
        _check_receivers(to, owner=what)
        _check_lists(on, to, owner=what, grouped=bool(group_window))
        check_not_negative(group_window, owner=what, argument="group_window")
        _check_columns(on, owner=what, include=include, group_by=group_by)
        if group_by and not group_window:
            raise DefinitionError(
                f"{what}: group_by is {group_by!r} and group_window is 0; needed is how long a group is gathered. Write for "
                "example group_window=timedelta(minutes=5)."
            )
        count: object = reasons
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MOST_REASONS:
            raise DefinitionError(
                f"{what}: reasons is {reasons!r}; allowed is a whole number from 0 to {MOST_REASONS}. Write for example reasons=3."
            )
        if repeat is not None:
            _check_span(repeat, owner=what, argument="repeat")
        _check_span(give_up_after, owner=what, argument="give_up_after")
        _check_fits(on, owner=what, group_window=bool(group_window), repeat=repeat is not None)
        values = (
            ("name", name),
            ("on", on),
            ("to", tuple(to)),
            ("include", tuple(include)),
            ("reasons", reasons),
            ("group_by", tuple(group_by)),
            ("group_window", group_window),
            ("repeat", repeat),
            ("recover", recover),
            ("give_up_after", give_up_after),
            ("description", description),
            ("owner", owner),
            ("tags", tags_of(tags, owner=what)),
        )
        for attribute, value in values:
            object.__setattr__(self, attribute, value)


def metrics_of(endpoint: Endpoint) -> tuple[str, ...]:
    """The metrics that alerts on an endpoint may name."""
    return (*STREAM_METRICS, *QUALITY_METRICS[endpoint.model.task], *DRIFT_METRICS)


def default_window(metric: str) -> timedelta:
    """Over which stretch of event time a metric is measured where nothing is said."""
    return timedelta(minutes=10) if metric in STREAM_METRICS else timedelta(days=7)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_endpoint(endpoint: object, *, owner: str) -> None:
    if not isinstance(endpoint, Endpoint):
        raise DefinitionError(
            f"{owner}: endpoint is {endpoint!r}; allowed is an Endpoint. Give the one that decides."
        )


def _conditions(
    where: Mapping[str, Scalar | Sequence[Scalar]], endpoint: Endpoint, *, owner: str
) -> tuple[tuple[str, tuple[Scalar, ...]], ...]:
    columns = [field.name for field in endpoint.source.schema]
    features = list(endpoint.features.feature_types)
    found = []
    for name, value in where.items():
        if name not in {*columns, *features}:
            raise DefinitionError(
                f"{owner}: where names {name!r}; allowed are the columns of {endpoint.source.name!r} ({', '.join(columns)}) and "
                f"the features of {endpoint.features.name!r} ({', '.join(features)}). Correct it."
            )
        values = tuple(value) if isinstance(value, list | tuple) else (value,)
        if not values or not all(isinstance(one, bool | int | float | str) for one in values):
            raise DefinitionError(
                f"{owner}: where gives {name!r} as {value!r}; allowed are a text, a number, a truth value, or a list of them. Write "
                f"for example where={{{name!r}: [1, 2]}}."
            )
        found.append((name, values))
    return tuple(found)


def _group(of: object, endpoint: Endpoint, metric: str, *, owner: str) -> tuple[str, str]:
    """The version, arm or segment that a metric is of: the dimension as ``--by`` names it, and the value as it is shown."""
    if metric in DRIFT_METRICS:
        raise DefinitionError(
            f"{owner}: of is {of!r} for {metric}, which is watched of the version in Production; allowed is it for other metrics. Remove it."
        )
    if not isinstance(of, Mapping) or len(of) != 1 or not all(isinstance(one, Scalar) for one in of.values()):
        raise DefinitionError(
            f'{owner}: of is {of!r}; allowed is one version, arm or segment. Write for example of={{"arm": "challenger"}}.'
        )
    ((dimension, value),) = of.items()
    segments = [field.name for field in endpoint.source.schema] + list(endpoint.features.feature_types)
    if dimension not in {"version", "arm", *(f"segment:{name}" for name in segments)}:
        near = get_close_matches(str(dimension), [f"segment:{name}" for name in segments], n=3, cutoff=0.5)
        raise DefinitionError(
            f"{owner}: of names {dimension!r}; allowed are version, arm and segment:NAME of the columns of {endpoint.source.name!r} and the "
            f"features of {endpoint.features.name!r} ({', '.join(near or segments)}). Correct it."
        )
    arms = [arm.name for arm in endpoint.arms if not arm.shadow]
    if dimension == "arm" and value not in arms:
        raise DefinitionError(
            f"{owner}: of names the arm {value!r}; allowed are those of {endpoint.name!r} that decide: {', '.join(arms) or 'it has none'}. "
            "Choose one."
        )
    if isinstance(value, bool):  # columns hold truth values, features 0 and 1
        is_column = dimension in {f"segment:{field.name}" for field in endpoint.source.schema}
        return str(dimension), str(value).lower() if is_column else str(int(value))
    return str(dimension), str(value)


def _check_span(value: object, *, owner: str, argument: str) -> None:
    if not isinstance(value, timedelta) or value <= timedelta(0):
        raise DefinitionError(
            f"{owner}: {argument} is {value!r}; allowed is a timedelta above 0. Write for example timedelta(minutes=5)."
        )


def _check_variable(name: object, *, owner: str, argument: str) -> None:
    if not isinstance(name, str) or not name.isidentifier() or name.startswith("whsec_"):
        raise DefinitionError(  # what was found is not repeated: it may be the secret
            f"{owner}: {argument} is not the name of an environment variable; allowed are letters, digits and underscores. Put the "
            f'secret into a variable, and write its name here, for example {argument}="ALERTS_SECRET".'
        )


def _check_on(on: object, *, owner: str) -> None:
    if not isinstance(on, OnDecision | OnMetric):
        raise DefinitionError(
            f"{owner}: on is {on!r}; allowed are OnDecision and OnMetric. Write for example on=OnDecision(checkout, "
            'action="block").'
        )


def _check_receivers(to: object, *, owner: str) -> None:
    if not isinstance(to, list | tuple) or not to or not all(isinstance(one, Receiver) for one in to):
        raise DefinitionError(
            f"{owner}: to is {to!r}; allowed is a list of at least one Webhook, Apprise or AddTo. Write for example "
            'to=[Webhook("https://cards.example/ban", secret_env="CARDS_SECRET")].'
        )
    names = [one.name for one in to]
    if len(set(names)) < len(names):
        raise DefinitionError(
            f"{owner}: to names a receiver twice ({', '.join(names)}); allowed is each once. Remove one."
        )


def _check_lists(on: OnDecision | OnMetric, to: Sequence[Receiver], *, owner: str, grouped: bool) -> None:
    for one in to:
        if not isinstance(one, AddTo):
            continue
        if isinstance(on, OnMetric) or grouped:
            what = (
                "a metric, which has no key" if isinstance(on, OnMetric) else "a group, of which few are kept"
            )
            raise DefinitionError(
                f"{owner}: AddTo of {one.keys.name!r} is given with {what}; allowed is it on decisions, each by itself. Make an alert of its own."
            )
        one.check_stream(on.endpoint.source, owner=owner)


def _check_columns(on: OnDecision | OnMetric, *, owner: str, **given: Sequence[str]) -> None:
    columns = [field.name for field in on.endpoint.source.schema]
    for argument, names in given.items():
        if isinstance(names, str) or any(name not in columns for name in names):
            raise DefinitionError(
                f"{owner}: {argument} is {names!r}; allowed is a list of columns of {on.endpoint.source.name!r}: "
                f"{', '.join(columns)}. Correct it."
            )
        if names and isinstance(on, OnMetric):
            raise DefinitionError(
                f"{owner}: {argument} is {names!r} on a metric, which has no event; allowed is it on decisions. Remove it."
            )


def _check_fits(on: OnDecision | OnMetric, *, owner: str, group_window: bool, repeat: bool) -> None:
    if isinstance(on, OnMetric) and group_window:
        raise DefinitionError(
            f"{owner}: group_window is given on a metric, which is one message; allowed is it on decisions. Remove it."
        )
    if isinstance(on, OnDecision) and repeat:
        raise DefinitionError(
            f"{owner}: repeat is given on decisions, which are told once each; allowed is it on metrics. Remove it."
        )
