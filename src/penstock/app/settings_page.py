"""Every setting of a project in one table: ``python -m penstock.app.settings_page > docs/settings.md``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from penstock.app.settings import NESTED, OTHER_VARIABLES, PREFIX, Settings

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

ONLY_IN_THE_FILE = "project"
"""The section that is read before the others, from the file alone."""

HEAD = f"""# Settings

<!-- Made by `python -m penstock.app.settings_page > docs/settings.md`; a test checks that it is current. -->

A setting is taken from the first of these that has it:

1. an option of the command, where there is one (`penstock up --port 9000`),
2. the environment: `{PREFIX}SERVE{NESTED}PORT=9000`,
3. the file `.env` in the project's folder, with lines as in the environment: for what must not stand in version control,
4. the file `penstock.toml`: `port = 9000` under `[serve]`,
5. the default.

Lists are written as JSON in variables: `{PREFIX}SERVE{NESTED}ALLOWED_HOSTS='["fraud.example"]'`. A value that is not allowed ends the command
with what was found and what is allowed. A misspelt name is an error in `.env` and `penstock.toml`; in the environment, which others use too,
`penstock doctor` finds it. Of `.env` only lines that begin with `{PREFIX}` are read; secrets that definitions name (`secret_env` of a webhook)
belong into the environment.
"""


def sections() -> Iterator[tuple[str, str, Mapping[str, FieldInfo]]]:
    """The tables of ``penstock.toml``: name, meaning, and what stands in each."""
    for name, field in Settings.model_fields.items():
        model: Any = field.annotation
        yield name, (model.__doc__ or "").partition(": ")[2], model.model_fields


def variables() -> frozenset[str]:
    """Every environment variable that Penstock reads."""
    named = {
        _variable(section, name)
        for section, _, fields in sections()
        for name in fields
        if section != ONLY_IN_THE_FILE
    }
    whole = {f"{PREFIX}{section}".upper() for section, _, _ in sections()}
    return frozenset(named | whole | set(OTHER_VARIABLES))


def reference() -> str:
    """The page, in Markdown."""
    return (
        "\n".join([HEAD, *(line for section in sections() for line in _table(*section)), *_others()]) + "\n"
    )


def _table(section: str, meaning: str, fields: Mapping[str, FieldInfo]) -> Iterator[str]:
    yield f"## [{section}]: {meaning.rstrip('.')}\n"
    yield "| setting | variable | allowed | default | meaning |"
    yield "|---|---|---|---|---|"
    for name, field in fields.items():
        variable = "–" if section == ONLY_IN_THE_FILE else f"`{_variable(section, name)}`"
        cells = (f"`{name}`", variable, _allowed(field), _default(field), field.description or "")
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""


def _others() -> Iterator[str]:
    yield "## Other variables\n"
    yield "| variable | meaning |"
    yield "|---|---|"
    yield from (f"| `{name}` | {meaning} |" for name, meaning in OTHER_VARIABLES.items())


def _variable(section: str, name: str) -> str:
    return f"{PREFIX}{section}{NESTED}{name}".upper()


def _allowed(field: FieldInfo) -> str:
    """What a setting may be, in words."""
    words = {"int": "whole number", "float": "number", "str": "text", "bool": "true or false"}
    text = str(getattr(field.annotation, "__name__", field.annotation))
    if text.startswith("typing.Literal") or text == "Literal":
        return ", ".join(f"`{value}`" for value in getattr(field.annotation, "__args__", ()))
    many = "list" in str(field.annotation)
    bounds = "; ".join(_bound(one) for one in field.metadata if _bound(one))
    return ("list of texts" if many else words.get(text, "text")) + (f", {bounds}" if bounds else "")


def _bound(constraint: object) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    found = [
        f"{sign} {getattr(constraint, name):,}" for name, sign in signs.items() if hasattr(constraint, name)
    ]
    return " ".join(found)


def _default(field: FieldInfo) -> str:
    return "–" if field.default is None else f"`{json.dumps(field.default)}`"


if __name__ == "__main__":
    sys.stdout.write(reference())
