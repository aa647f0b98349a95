"""Commands as the reader can type them where he stands, whether or not the environment is activated."""

import os
import shutil
import sys
from pathlib import Path


def in_project(command: str, project: Path) -> str:
    """A `penstock` command on the project in a folder."""
    penstock = "penstock" if shutil.which("penstock") else shown(Path(sys.executable).with_name("penstock"))
    return f"{penstock} {command} --project {shown(project)}"


def this_python() -> str:
    """The interpreter that runs this."""
    return "python" if shutil.which("penstock") else shown(Path(sys.executable))


def shown(path: Path) -> str:
    """A path from where the reader stands, if that is shorter."""
    return min(os.path.relpath(path), str(path), key=len)
