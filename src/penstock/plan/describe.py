"""A plan as plain values: what `penstock explain --json` prints, and what the text is made from. Pure."""

from __future__ import annotations

import hashlib
from typing import Any

from penstock.core.errors import NotFoundError
from penstock.core.time import format_duration, from_us
from penstock.kernel.program import ENDLESS_US, Window
from penstock.plan.compile import view_fingerprint
from penstock.plan.nodes import (
    ArmNode,
    EndpointNode,
    Lookup,
    Plan,
    RealtimeNode,
    Selected,
    ServiceNode,
    SourceNode,
    ViewNode,
)
from penstock.plan.policies import described_policy

Description = dict[str, Any]


def describe(plan: Plan, name: str | None = None) -> Description:
    """`plan` as JSON-able values; with `name` only what the service, view, model or endpoint of that name needs.

    Raises
    ------
    NotFoundError
        The plan has nothing of that name; the message lists what it has.
    """
    endpoints, services, views = _chosen(plan, name)
    sources = {view.source for view in views} | {service.source for service in services}
    if name is None:
        sources |= set(plan.sources)
    return {
        "fingerprint": plan.fingerprint,
        "sources": [_source(node) for node in plan.sources.values() if node.name in sources],
        "views": [_view(plan, view) for view in views],
        "services": [_service(plan, service) for service in services],
        "endpoints": [_endpoint(endpoint) for endpoint in endpoints],
    }


def window_text(window: Window) -> str:
    """A window as an interval of event time.

    >>> window_text(Window(86_400_000_000)), window_text(Window(3_600_000_000, -60_000_000))
    ('(t - 1d, t]', '(t - 1h1m, t - 1m]')
    >>> (
    ...     window_text(Window(3_600_000_000, 0, 60_000_000)),
    ...     window_text(Window(0, current=False, lifetime=True)),
    ... )
    ('[t - 1h, t) in steps of 1m', '(-∞, t] without the event itself')
    >>> window_text(Window(ENDLESS_US))
    'up to t'
    """
    if window == Window(ENDLESS_US):
        return "up to t"
    end = "t" if not window.offset_us else f"t - {format_duration(-window.offset_us)}"
    start = "-∞" if window.lifetime else f"t - {format_duration(window.size_us - window.offset_us)}"
    if window.interval_us:
        return f"[{start}, {end}) in steps of {format_duration(window.interval_us)}"
    return f"({start}, {end}]" + ("" if window.current else " without the event itself")


def _chosen(plan: Plan, name: str | None) -> tuple[list[EndpointNode], list[ServiceNode], list[ViewNode]]:
    if name is None:
        return list(plan.endpoints.values()), list(plan.services.values()), list(plan.views)
    endpoints = [e for e in plan.endpoints.values() if name in {e.name, *(arm.model for arm in e.arms)}]
    wanted = {e.service for e in endpoints} | {name}
    services = [s for s in plan.services.values() if s.name in wanted]
    used = {lookup.view for service in services for lookup in service.lookups}
    views = [view for i, view in enumerate(plan.views) if i in used or view.name == name]
    if not (endpoints or services or views):
        raise NotFoundError(f"explain: the plan has nothing named {name!r}. It has {_names(plan)}.")
    return endpoints, services, views


def _names(plan: Plan) -> str:
    kinds = {
        "services": list(plan.services),
        "views": [view.name for view in plan.views],
        "models": list(dict.fromkeys(arm.model for e in plan.endpoints.values() for arm in e.arms)),
        "endpoints": list(plan.endpoints),
    }
    return "; ".join(f"{kind} {', '.join(names)}" for kind, names in kinds.items() if names)


def _source(node: SourceNode) -> Description:
    batch = {"data_delay": format_duration(node.data_delay_us)} if node.is_batch else {}
    cards = {} if node.card_numbers == "refuse" else {"card_numbers": node.card_numbers}
    return {
        "name": node.name,
        "fields": [{"name": f.name, "type": f.dtype.name, "optional": f.optional} for f in node.fields],
        "time_field": node.time_field,
        "id_field": node.id_field,
        "label_of": node.label_of,
        "label_field": node.label_field,
        "allowed_lateness": format_duration(node.allowed_lateness_us),
        "max_future_skew": format_duration(node.max_future_skew_us),
        **batch,
        **cards,
    }


def _view(plan: Plan, view: ViewNode) -> Description:
    windows = [window_text(window) for window in view.program.windows]
    start = None if view.start_us is None else from_us(view.start_us).isoformat()
    batch = {"data_delay": format_duration(view.delay_us), "feature_start_time": start}
    return {
        "name": view.name,
        "source": view.source,
        "mode": view.mode if view.function is not None else None,
        "code": _short(view.code),
        "keys": [{"name": f.name, "type": f.dtype.name} for f in view.keys],
        "time_field": view.time_field,
        "fingerprint": view_fingerprint(plan, view),
        "max_keys": view.program.max_keys,
        **(batch if plan.sources[view.source].is_batch else {}),
        "reads": _read_by(plan, view),
        "pruned": _pruned_of(plan, view),
        "lanes": [
            {"column": lane.column, "where": lane.where, "type": lane.dtype.name} for lane in view.lanes
        ],
        "windows": windows,
        "aggregates": [
            {
                "name": a.name,
                "function": a.function,
                "column": view.lanes[a.lane].column,
                "where": view.lanes[a.lane].where,
                "window": " … ".join(dict.fromkeys((windows[a.windows[0]], windows[a.windows[-1]]))),
                "type": a.dtype.name,
            }
            for a in view.aggregates
        ],
    }


def _read_by(plan: Plan, view: ViewNode) -> list[str]:
    """The columns that the view is given: all but the pruned ones."""
    return [f.name for f in view.columns if f"{view.source}.{f.name} in {view.name}" not in plan.pruned]


def _pruned_of(plan: Plan, view: ViewNode) -> list[str]:
    """The aggregates and columns of a view that nobody uses, and that are not computed or read."""
    aggregates = [name for name in plan.pruned if name.startswith(f"{view.name}.") and " in " not in name]
    columns = [
        name.removesuffix(f" in {view.name}") for name in plan.pruned if name.endswith(f" in {view.name}")
    ]
    return aggregates + columns


def _service(plan: Plan, service: ServiceNode) -> Description:
    return {
        "name": service.name,
        "source": service.source,
        "fingerprint": service.fingerprint,
        "lookups": [_lookup(plan, lookup) for lookup in service.lookups],
        "realtime": [_realtime(node) for node in service.realtime],
        "outputs": [_output(output) for output in service.outputs],
    }


def _lookup(plan: Plan, lookup: Lookup) -> Description:
    return {
        "view": plan.views[lookup.view].name,
        "key_columns": list(lookup.key_columns),
        "own": lookup.own,
    }


def _realtime(node: RealtimeNode) -> Description:
    return {
        "name": node.name,
        "mode": node.mode,
        "code": _short(node.code),
        "arguments": [[value.name for value in argument] for argument in node.arguments],
        "attributes": [{"name": f.name, "type": f.dtype.name} for f in node.attributes],
    }


def _output(output: Selected) -> Description:
    return {"name": output.name, "type": output.dtype.name, "from": output.kind}


def _endpoint(endpoint: EndpointNode) -> Description:
    described = {
        "name": endpoint.name,
        "source": endpoint.source,
        "service": endpoint.service,
        "model": endpoint.model,
        "policy": endpoint.policy,
        "default": endpoint.actions[0],
        "actions": [{"action": action, "threshold": threshold} for action, threshold in endpoint.steps],
        "arms": [_arm(arm) for arm in endpoint.arms],
        "sticky": list(endpoint.sticky),
    }
    terms = {} if endpoint.terms is None else {"terms": described_policy(endpoint.terms)}
    return {**described, **_beside_score(endpoint), **terms}


def _beside_score(endpoint: EndpointNode) -> Description:
    """Rules, exploration and chosen thresholds, where there are some."""
    names = endpoint.actions
    rules = [{"rule": r.name, "when": r.feature, "action": names[r.action]} for r in endpoint.rules]
    explore = {action: share for action, share in zip(names, endpoint.explore, strict=False) if share}
    cap = endpoint.cap
    found: Description = {
        "rules": rules,
        "explore": explore,
        "chosen": list(endpoint.chosen),
        "lists": list(endpoint.lists),
        "cap": None
        if cap is None
        else {
            "per_day": cap.per_day,
            "actions": [names[a] for a in cap.actions],
            "instead": names[cap.instead],
        },
    }
    return {name: value for name, value in found.items() if value}


def _arm(arm: ArmNode) -> Description:
    return {
        "name": arm.name,
        "model": arm.model,
        "service": arm.service,
        "version": arm.version,
        "weight": arm.weight,
        "shadow": arm.shadow,
    }


def _short(code: str) -> str | None:
    """A digest of a function's code, by which one sees that it changed; None where there is no function."""
    return hashlib.sha256(code.encode()).hexdigest()[:16] if code else None
