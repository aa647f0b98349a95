"""What takes long to make is made once a run of the tests, however many workers there are, and copied by whoever needs it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

MAKING_S = 450.0


def made_once(base: Path, name: str, module: str, *arguments: str) -> Path:
    """A folder that ``python -m MODULE FOLDER ARGUMENTS`` makes; leave it as it is.

    Parameters
    ----------
    base
        The worker's own folder for temporary files; workers share the one above.
    """
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = shared / name / name, shared / name / "done"
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            command = [sys.executable, "-m", module, str(folder), *arguments]
            made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=MAKING_S)
            if made.returncode:
                raise RuntimeError(f"{module}: {made.stdout[-2000:]}{made.stderr[-3000:]}")
            done.touch()
    return folder
