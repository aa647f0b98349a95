"""The pages, a file each, and where they are."""

from __future__ import annotations

from penstock.dashboard.pages import decision, decisions, models, overview

PAGES = {
    "/": overview.page,
    "/decisions": decisions.page,
    "/decisions/{source}/{event_id:path}": decision.page,
    "/models": models.page,
    "/models/{model}": models.model,
}
