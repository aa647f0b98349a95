"""Python environments of their own, for what is large or does not get along with our packages: Spark and Airflow."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from services import maven
from services.base import FOLDER, ServiceError


@dataclass(frozen=True)
class Environment:
    """A virtual environment under ``.services``.

    `shares` says that it sees the packages of the environment that makes it, behind its own.
    """

    name: str
    packages: tuple[str, ...]
    shares: bool = False
    jars: str = ""  # a pom of services/maven

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return FOLDER / self.name / "bin" / "python"

    @property
    def installed(self) -> bool:
        """Whether it holds these packages."""
        mark = self._mark
        return mark.is_file() and mark.read_text() == self._wanted

    def install(self) -> None:
        """Make it, unless it is there; raises `ServiceError` where a package cannot be had."""
        FOLDER.mkdir(exist_ok=True)
        with (FOLDER / f"{self.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.installed:
                self._make()
            if self.jars:
                maven.install(self.jars)

    @property
    def _mark(self) -> Path:
        return FOLDER / self.name / "installed"

    @property
    def _wanted(self) -> str:
        return "\n".join([sys.version, *self.packages])

    def _make(self) -> None:
        folder = FOLDER / self.name
        self._run(sys.executable, "-m", "venv", "--clear", str(folder))
        self._run(str(self.python), "-m", "pip", "install", "--quiet", *self.packages)
        if self.shares:
            (site,) = folder.glob("lib/python*/site-packages")
            (site / "shared.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
        self._mark.write_text(self._wanted)

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServiceError(f"{self.name} cannot be installed: {done.stderr.strip()[-2000:]}")


ENVIRONMENTS = {
    one.name: one
    for one in (
        Environment("spark", ("pyspark==4.2.0",), shares=True, jars="spark"),
        Environment("airflow", ("apache-airflow>=3.1",)),
    )
}
