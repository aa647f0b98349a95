"""``penstock init``: a small working project to start from."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.output import hint, say
from penstock.core.errors import ProjectError

TEMPLATE = Path(__file__).parent / "template"
# Names in the package and in the project: a package must hold neither a hidden file nor one that tools would obey.
FILES = {
    "definitions.py": "definitions.py",
    "sample.py": "sample.py",
    "feature_tests.py": "tests/test_features.py",
    "project.toml": "penstock.toml",
    "project.md": "README.md",
    "gitignore": ".gitignore",
}


def init(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The folder to make; its last part is the project's name.")
    ],
) -> None:
    """Write a small working project to start from.

    Card payments and chargebacks, features, a model, a policy, and a sample to run.
    """
    folder = Path(name)
    write_project(folder)
    say(f"Wrote {folder}: definitions.py, penstock.toml, README.md, sample.py, tests/ and a sample in data/")
    hint(f"cd {folder} && penstock explain && penstock run")


def write_project(folder: Path) -> None:
    """Write the template to `folder`, which must not exist or be empty; raises `ProjectError` otherwise."""
    from penstock.cli.template import sample

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ProjectError(
            f"init: {folder} exists and is not an empty folder; allowed is a new or an empty one. Choose another name."
        )
    title = folder.resolve().name
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]*", title):
        raise ProjectError(
            f"init: {title!r} cannot name a project; allowed are letters, digits, spaces, dots, hyphens and underscores. "
            "Choose another name."
        )
    folder.mkdir(parents=True, exist_ok=True)
    for packaged, written in FILES.items():
        (folder / written).parent.mkdir(exist_ok=True)
        shutil.copyfile(TEMPLATE / packaged, folder / written)
    for written in ("penstock.toml", "README.md"):
        path = folder / written
        path.write_text(path.read_text("utf-8").replace("PROJECT_NAME", title), "utf-8")
    sample.write(folder / "data")
