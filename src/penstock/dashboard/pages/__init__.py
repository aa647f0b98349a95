"""The pages, a file each, and where they are."""

from __future__ import annotations

from penstock.dashboard.pages import (
    alerts,
    compare,
    dead_letters,
    decision,
    decisions,
    drift,
    experiments,
    features,
    jobs,
    lists,
    models,
    overview,
    performance,
    system,
)

PAGES = {
    "/": overview.page,
    "/decisions": decisions.page,
    "/decisions/{source}/{event_id:path}": decision.page,
    "/features": features.page,
    "/features/{name:path}": features.entry,
    "/models": models.page,
    "/models/{model}": models.model,
    "/performance": performance.page,
    "/compare": compare.page,
    "/drift": drift.page,
    "/experiments": experiments.page,
    "/alerts": alerts.page,
    "/dead-letters": dead_letters.page,
    "/dead-letters/{letter}": dead_letters.letter,
    "/lists": lists.page,
    "/lists/{name}": lists.members,
    "/jobs": jobs.page,
    "/jobs/{job}": jobs.job,
    "/system": system.page,
}
