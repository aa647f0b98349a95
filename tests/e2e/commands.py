"""Commands as users run them, in processes of their own."""

import subprocess
import sys
from pathlib import Path


def penstock(folder: Path, *arguments: str) -> str:
    """Run a command in a folder; returns what it wrote to stdout."""
    command = [sys.executable, "-c", "from penstock.cli.main import app; app()", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"penstock {' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-3000:]}")
    return done.stdout
