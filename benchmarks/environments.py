"""Peers live in environments of their own, made on first use from `peers/NAME/requirements.txt`."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.process import ContestantError

PEERS = Path(__file__).parent / "peers"
ENVIRONMENTS = Path(__file__).parent / ".environments"


def peer_python(peer: str) -> Path:
    """The interpreter of a peer's environment, which is created or renewed where its requirements changed.

    Raises
    ------
    ContestantError
        The requirements cannot be installed here.
    """
    requirements = PEERS / peer / "requirements.txt"
    folder = ENVIRONMENTS / peer
    stamp = folder / ".requirements"
    digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    if not (stamp.is_file() and stamp.read_text() == digest):
        shutil.rmtree(folder, ignore_errors=True)
        _uv("venv", "--python", sys.executable, folder)
        _uv("pip", "install", "--python", folder / "bin/python", "--requirement", requirements)
        stamp.write_text(digest)
    return folder / "bin/python"


def peer_versions(peer: str) -> dict[str, str]:
    """The versions of the packages that a peer's requirements name."""
    named = {
        line.partition(">")[0].strip()
        for line in (PEERS / peer / "requirements.txt").read_text().splitlines()
    }
    code = (
        "import json, sys; from importlib.metadata import version; "
        "print(json.dumps({n: version(n) for n in sys.argv[1:]}))"
    )
    command = [str(peer_python(peer)), "-c", code, *sorted(named - {""})]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return {f"{name} ({peer})": version for name, version in json.loads(run.stdout).items()}


def _uv(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "uv", "--quiet", *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise ContestantError(f"uv {arguments[0]} failed: {run.stderr.strip()[-400:]}")
