"""Versions that must never serve: each a fresh one, damaged in a way and at a place drawn at random.

Some are damaged on disk after they were registered, as a failing disk or a careless hand does; others are whole by every digest, and
wrong inside.
"""

from __future__ import annotations

import os
import struct
from dataclasses import replace

from penstock.models.manifest import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    FileEntry,
    ModelFiles,
    read_files,
    sha256,
)
from penstock.models.verification import read_golden, write_golden

LEFT_CHILDREN = b"left_children[$l#L"
LENGTH_BYTES = 8


def truncated(version, chance):
    path, data = _file(version, chance)
    path.write_bytes(data[: chance.randrange(1, len(data))])


def emptied(version, chance):
    _file(version, chance)[0].write_bytes(b"")


def flipped(version, chance):
    path, data = _file(version, chance)
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def of_another_digest(version, chance):
    """A sound file, but not the one that was registered: the digest in the manifest is made to fit it."""
    manifest = version.folder / MANIFEST_NAME
    entry = chance.choice(version.manifest().files)
    path = version.folder / entry.name
    path.write_bytes(path.read_bytes() + b"\0")
    text = manifest.read_text().replace(entry.sha256, sha256(path.read_bytes()))
    manifest.write_text(text.replace(f'"size": {entry.size}', f'"size": {entry.size + 1}'))


def with_a_huge_manifest(version, _chance):
    os.truncate(version.folder / MANIFEST_NAME, MAX_MANIFEST_BYTES + 1)


def of_other_features(files, chance):
    if chance.random() < 0.5:
        return _signed(replace(files.manifest, service_fingerprint=f"{chance.getrandbits(256):064x}"), files)
    return _signed(replace(files.manifest, features=files.manifest.features[:1]), files)


def with_other_golden_scores(files, chance):
    """The model answers otherwise than it did when it was trained, on one row or on all."""
    vectors, scores = read_golden(files["golden"], features=len(files.manifest.features))
    rows = slice(None) if chance.random() < 0.5 else chance.randrange(len(scores))
    scores = scores.copy()
    scores[rows] += chance.choice((-1, 1)) * chance.uniform(1e-4, 0.5)
    return _with(files, "golden", write_golden(vectors, scores))


def with_a_huge_header(files, chance):
    """Golden rows that say they are more than any machine holds."""
    rows = 1 << chance.randrange(36, 60)
    text = (
        f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({rows}, {len(files.manifest.features) + 1}), }}"
    )
    header = text.encode().ljust(117) + b"\n"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + chance.randbytes(64)
    if chance.random() < 0.5:  # or a header that is itself too long
        data = b"\x93NUMPY\x02\x00" + struct.pack("<I", chance.randrange(1 << 30, 1 << 32)) + data
    return _with(files, "golden", data)


def that_kills_who_loads_it(trees, chance):
    """Trees whose first child lies far outside of them: XGBoost reads memory that is not there."""
    data = bytearray(trees["ubj"])
    at = data.find(LEFT_CHILDREN)
    while at >= 0:
        first = at + len(LEFT_CHILDREN) + LENGTH_BYTES
        data[first : first + 4] = chance.randrange(1 << 28, 1 << 30).to_bytes(4, "big")
        at = data.find(LEFT_CHILDREN, first)
    return _with(trees, "ubj", bytes(data))


def that_is_no_model(files, chance):
    return _with(files, "onnx", chance.randbytes(chance.randrange(1, 4_000)))


ON_DISK = (truncated, emptied, flipped, of_another_digest, with_a_huge_manifest)
"""Damage to the files of a registered version."""
INSIDE = (
    of_other_features,
    with_other_golden_scores,
    with_a_huge_header,
    that_kills_who_loads_it,
    that_is_no_model,
)
"""Make the files of a version that is wrong though every digest is right."""


class BadVersions:
    """A bag of all ways to be bad, drawn without repeating one before all had their turn.

    Parameters
    ----------
    chance
        A seeded `random.Random`.
    register
        Registers a fresh sound version; with files, these.
    trees
        A sound version of the XGBoost engine, for those that die of it.
    """

    def __init__(self, chance, register, trees):
        self._chance, self._register, self._trees = chance, register, trees
        self._bag = []
        self.made = []

    def next(self):
        """A fresh bad version."""
        if not self._bag:
            self._bag = [*ON_DISK, *INSIDE]
            self._chance.shuffle(self._bag)
        kind = self._bag.pop()
        version = self._register()
        if kind in ON_DISK:
            kind(version, self._chance)
        else:
            sound = (
                self._trees
                if kind is that_kills_who_loads_it
                else read_files(version.folder, digest=version.digest)
            )
            version = self._register(kind(sound, self._chance))
        self.made.append((kind.__name__, version))
        return version


def _file(version, chance):
    path = chance.choice([path for path in sorted(version.folder.iterdir()) if path.stat().st_size])
    return path, bytearray(path.read_bytes())


def _with(files, role, data):
    entries = tuple(
        FileEntry(e.name, e.role, len(data), sha256(data)) if e.role == role else e
        for e in files.manifest.files
    )
    return _signed(
        replace(files.manifest, files=entries), ModelFiles(files.manifest, "", {**files.contents, role: data})
    )


def _signed(manifest, files):
    return ModelFiles(manifest, sha256(manifest.to_bytes()), files.contents)
