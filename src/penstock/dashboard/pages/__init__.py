"""The pages, one file each, and where they are."""

from __future__ import annotations

from penstock.dashboard.pages import overview

PAGES = {
    "/": overview.page,
}
