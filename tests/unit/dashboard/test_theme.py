from __future__ import annotations

import re

import pytest

from penstock.dashboard import theme

GROUNDS = ("ground", "surface", "raised")
TEXTS = ("ink", "soft", "faint", "accent")


@pytest.mark.parametrize("palette", [theme.LIGHT, theme.DARK], ids=["light", "dark"])
def test_texts_can_be_read(palette):
    for ground in GROUNDS:
        for text in TEXTS:
            assert theme.contrast(palette[text], palette[ground]) >= 4.5, (text, ground)
    for tone in ("good", "warn", "bad", "accent"):
        assert theme.contrast(palette[tone], palette[f"{tone}-soft"]) >= 4.5, tone
    assert theme.contrast(palette["on-accent"], palette["accent"]) >= 4.5


@pytest.mark.parametrize("palette", [theme.LIGHT, theme.DARK], ids=["light", "dark"])
def test_lines_of_charts_stand_out(palette):
    for number in range(1, 7):
        assert theme.contrast(palette[f"s{number}"], palette["surface"]) >= 3, number


def test_every_variable_that_is_used_is_in_both_palettes():
    sheet = (theme.STATIC / "penstock.css").read_text("utf-8")
    used = set(re.findall(r"var\(--([\w-]+)\)", sheet))
    assert used <= set(theme.LIGHT)
    assert set(theme.LIGHT) == set(theme.DARK)


def test_nothing_of_a_page_comes_from_elsewhere():
    texts = [
        path.read_text("utf-8") for path in theme.STATIC.parent.rglob("*") if path.suffix in {".css", ".js"}
    ]
    texts.append(theme.head("1"))
    assert len(texts) > 4
    for text in texts:
        assert not re.search(r"https?://|url\(['\"]?//", text)
