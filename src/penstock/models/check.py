"""Load and score one model version in a process of its own: ``python -m penstock.models.check FOLDER DIGEST``.

Model files are not memory-safe: a damaged one can kill the process that parses it, or ask for all its memory. This
process may die; the one that serves must not. Prints one JSON object; exit status 0 when the version is sound, 3 when it
is refused.
"""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import asdict
from pathlib import Path

from penstock.core.errors import PenstockError

REFUSED = 3
MEMORY_BYTES = 8 * 2**30


def limit_resources() -> None:
    """No core file, and no more address space than a model needs: a forged length must not exhaust the machine."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    allowed = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (allowed, hard))


def main(arguments: list[str]) -> int:
    """Check the version in folder `arguments[0]` with manifest digest `arguments[1]`."""
    from penstock.models.manifest import read_files
    from penstock.models.verification import build_model, verify

    limit_resources()
    folder, digest = arguments
    try:
        files = read_files(Path(folder), digest=digest)
        found = verify(
            build_model(files, version=files.manifest.name, compiled=False), golden=files["golden"]
        )
    except (PenstockError, MemoryError) as error:
        sys.stdout.write(json.dumps({"error": str(error) or type(error).__name__}))
        return REFUSED
    sys.stdout.write(json.dumps(asdict(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
