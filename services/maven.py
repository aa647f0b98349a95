"""Java programs from Maven Central: a pom with exact versions, and the SHA-256 of every file that it brings."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from services.base import FOLDER, ServiceError, need

POMS = Path(__file__).parent / "maven"
LIMIT_SECONDS = 240


def libraries(name: str) -> Path:
    """The folder with the files of ``maven/NAME.xml``."""
    return FOLDER / "maven" / name


def install(name: str) -> None:
    """Fetch the files of ``maven/NAME.xml``, unless they are there; raises `ServiceError` where one differs from ``NAME.sha256``."""
    folder, sums = libraries(name), (POMS / f"{name}.sha256").read_text()
    if folder.is_dir() and checksums(folder) == sums:
        return
    fetch(name)
    if checksums(folder) != sums:
        wrong = sorted(set(checksums(folder).splitlines()) ^ set(sums.splitlines()))
        shutil.rmtree(folder)
        raise ServiceError(f"{name}: files from Maven differ from {name}.sha256:\n" + "\n".join(wrong))


def fetch(name: str) -> None:
    """Have Maven copy the files of ``maven/NAME.xml``, and of all that they need, into their folder."""
    folder = libraries(name)
    shutil.rmtree(folder, ignore_errors=True)
    print(f"Fetching {name} and what it needs from Maven", flush=True)
    done = subprocess.run(
        [
            *(need("mvn"), "--batch-mode", "--quiet", "--file", str(POMS / f"{name}.xml")),
            *("dependency:copy-dependencies", f"-DoutputDirectory={folder}", "-DincludeScope=runtime"),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise ServiceError(f"{name}: Maven failed:\n{(done.stdout + done.stderr)[-2000:]}")


def checksums(folder: Path) -> str:
    """The SHA-256 of every file of `folder`, as ``sha256sum`` writes them."""
    files = sorted(folder.iterdir())
    return "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)


def pin(name: str) -> None:
    """Fetch ``maven/NAME.xml`` afresh and write ``NAME.sha256``: to be run, and its change read, after a change of the pom."""
    fetch(name)
    (POMS / f"{name}.sha256").write_text(checksums(libraries(name)))
