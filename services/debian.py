"""Programs from Debian's packages: which package brings which command, and the installation of those that are missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable

from services.base import ServiceError

PACKAGES = {
    "chromium": "chromium",
    "java": "default-jre-headless",
    "mvn": "maven",
    "pg_lsclusters": "postgresql",
    "prometheus": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "promtool": "prometheus",
    "redis-server": "redis-server",
}
# RUNLEVEL=1: Debian then starts none of the servers itself.
ENVIRONMENT = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
LIMIT_SECONDS = 240


def install_programs(programs: Iterable[str]) -> None:
    """Install the packages of those commands that this machine lacks; raises `ServiceError` where it cannot."""
    missing = sorted({PACKAGES[program] for program in programs if shutil.which(program) is None})
    if not missing:
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise ServiceError(
            f"Missing: {', '.join(missing)}. Install them (Debian, Ubuntu: sudo apt install {' '.join(missing)}) "
            "and run it again."
        )
    print(f"Installing {' '.join(missing)}", flush=True)
    _apt("update")
    _apt("install", "--yes", "--no-install-recommends", *missing)


def _apt(*arguments: str) -> None:
    done = subprocess.run(
        ["apt-get", "--quiet=2", *arguments],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise ServiceError(f"apt-get {' '.join(arguments)} failed:\n{(done.stdout + done.stderr)[-2000:]}")
