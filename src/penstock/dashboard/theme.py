"""How pages look: the palette, light and dark, and what stands in each page's head.

Every colour has a name and is a CSS variable, in charts too, so that a page changes from light to dark without asking the server.
"""

from __future__ import annotations

from pathlib import Path

STATIC = Path(__file__).parent / "static"
STATIC_URL = "/_penstock"

LIGHT = {
    "ground": "#f5f7f7",
    "surface": "#ffffff",
    "raised": "#eef2f2",
    "line": "#e1e7e8",
    "line-strong": "#c6d0d3",
    "ink": "#0f191d",
    "soft": "#475860",
    "faint": "#5f7079",
    "accent": "#0a6a78",
    "accent-soft": "#dff0f1",
    "on-accent": "#ffffff",
    "good": "#1c7548",
    "good-soft": "#e2f3e9",
    "warn": "#8f5200",
    "warn-soft": "#fdf0d9",
    "bad": "#b0281f",
    "bad-soft": "#fce6e3",
    "s1": "#0b7f90",
    "s2": "#5a5bd0",
    "s3": "#c47a0a",
    "s4": "#b5357f",
    "s5": "#4a9158",
    "s6": "#7c6c5d",
}
DARK = {
    "ground": "#0b1113",
    "surface": "#121a1d",
    "raised": "#1a2428",
    "line": "#222e33",
    "line-strong": "#37464d",
    "ink": "#e7eef0",
    "soft": "#aab8be",
    "faint": "#8b9ba3",
    "accent": "#4fc3d1",
    "accent-soft": "#10343b",
    "on-accent": "#062126",
    "good": "#52c88f",
    "good-soft": "#11301f",
    "warn": "#eeb04d",
    "warn-soft": "#35270d",
    "bad": "#ff857b",
    "bad-soft": "#3a1917",
    "s1": "#4fc3d1",
    "s2": "#9695f5",
    "s3": "#eeb04d",
    "s4": "#ec84c0",
    "s5": "#79c98c",
    "s6": "#b8a997",
}

SERIES = tuple(f"var(--s{number})" for number in range(1, 7))
"""Colours of the lines of a chart, in their order."""

TONES = ("good", "warn", "bad", "accent", "plain")
"""What a chip or a figure may say by its colour; its text says the same."""

_SWITCH = """
const root = document.documentElement;
const apply = (mode) => { mode === 'auto' ? root.removeAttribute('data-theme') : root.setAttribute('data-theme', mode); };
let mode = 'auto';
try { mode = localStorage.getItem('penstock-theme') || 'auto'; } catch (error) { /* storage is off */ }
apply(mode);
window.penstockTheme = (wanted) => {
  apply(wanted);
  try { localStorage.setItem('penstock-theme', wanted); } catch (error) { /* as above */ }
};
window.penstockThemeIs = () => root.getAttribute('data-theme') || 'auto';
document.addEventListener('visibilitychange', () => {
  if (window.did_handshake) emitEvent('seen', !document.hidden);
});
"""


def tone_of(action: str, actions: list[str]) -> str:
    """The tone of an action: the first of an endpoint's is good, the last bad.

    >>> [tone_of(one, ["approve", "review", "block"]) for one in ("approve", "review", "block", "?")]
    ['good', 'warn', 'bad', 'plain']
    """
    if action not in actions:
        return {"approve": "good", "review": "warn", "block": "bad"}.get(action, "plain")
    place = actions.index(action)
    return "good" if place == 0 else "bad" if place == len(actions) - 1 else "warn"


def head(version: str) -> str:
    """What each page's head holds: variables, style sheet, and the script that keeps the chosen theme."""
    return (
        f"<style>{_variables()}</style>"
        f'<link rel="preload" href="{STATIC_URL}/inter.woff2" as="font" type="font/woff2" crossorigin>'
        f'<link rel="stylesheet" href="{STATIC_URL}/penstock.css?{version}">'
        f"<script>{{{_SWITCH}}}</script>"
    )


def contrast(one: str, other: str) -> float:
    """How far two colours stand apart, as WCAG measures it: text needs 4.5, lines of a chart 3.

    >>> round(contrast("#000000", "#ffffff"))
    21
    """
    brighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _variables() -> str:
    light, dark = (
        ";".join(f"--{name}:{value}" for name, value in palette.items()) for palette in (LIGHT, DARK)
    )
    return (
        f":root{{color-scheme:light;{light}}}"
        f"@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{color-scheme:dark;{dark}}}}}"
        f":root[data-theme=dark]{{color-scheme:dark;{dark}}}"
    )
