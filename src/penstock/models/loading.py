"""Loading a model version so that no file, however damaged, can hurt the process that serves.

1. Every file's size and SHA-256 are checked before a byte is parsed.
2. A child process loads the version and scores its golden rows; whatever happens there, happens there.
3. Only then the bytes that were checked (not the files again) are loaded here, and the golden rows scored once more.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from penstock.core.errors import ArtifactError
from penstock.models.check import REFUSED
from penstock.models.manifest import read_files
from penstock.models.verification import Verification, build_model, verify

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.models.runtimes import ScoringModel

_verification_decoder = msgspec.json.Decoder(Verification)

TIMEOUT_S = 60.0
CHECK = ("-m", "penstock.models.check")


class Kept(NamedTuple):
    """Where a project keeps what its versions learn, and the id of the log that they learn; without one, of any."""

    folder: Path
    log: str = ""


def load_model(
    folder: Path, *, digest: str, version: str, timeout_s: float = TIMEOUT_S, states: Kept | None = None
) -> ScoringModel:
    """The model in `folder`, verified and ready to score.

    Parameters
    ----------
    folder, digest
        Where the version lies, and the SHA-256 of its manifest as the registry has it.
    version
        The name that decisions record.
    timeout_s
        How long the child process may take.
    states
        Where the project keeps what its versions have learned; without it a version that goes on learning has no score.

    Raises
    ------
    ArtifactError
        When a file differs from its digest, or the child process dies, hangs, or finds other scores than expected.
    """
    files = read_files(folder, digest=digest)
    if files.manifest.engine == "online":
        from penstock.models.learning_model import learning_model

        return learning_model(files, version=version, states=states)
    check_in_child(folder, digest=digest, timeout_s=timeout_s)
    model = build_model(files, version=version)
    verify(model, golden=files["golden"])
    return model


def check_in_child(folder: Path, *, digest: str, timeout_s: float = TIMEOUT_S) -> Verification:
    """Let a child process load and score the version; see `penstock.models.check`."""
    # -P: a file of the project's folder must not stand in for a library.
    command = [sys.executable, "-P", *CHECK, str(folder), digest]
    try:
        done = subprocess.run(  # noqa: S603 - our own module, no shell
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
    except subprocess.TimeoutExpired as error:
        raise ArtifactError(
            f"Model in {folder}: the process that checks it took longer than {timeout_s:g} s and was ended. "
            "Train and register the model again, or allow more time."
        ) from error
    if done.returncode:
        raise ArtifactError(f"Model in {folder}: refused. {_reason(done)}")
    return _verification_decoder.decode(done.stdout)


def _reason(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode == REFUSED:
        return msgspec.json.decode(done.stdout, type=dict[str, str])["error"]
    last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        return (
            f"The process that checks it died of {name}: a file is damaged although its digest is right. Train and "
            "register the model again."
        )
    return f"The process that checks it ended with status {done.returncode}: {' '.join(last)[:300]}"
