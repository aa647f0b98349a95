"""Publishing the latest state of each key for replicas: a follower of what is committed, which never holds up the engine.

1. The views' rows are noted as the engine moves over them; their keys are due.
2. Some keys at a time are taken out of the state, between two micro-batches.
3. When what they have seen is durable, they are sealed and kept in the blob store, as of that position.
4. When nothing is due any more, it is noted up to where all is published.

While the store is away keys stay due: each once, however often it changes. What is published is no truth: at the start, with other definitions, and
where too much is due, all of it is published anew.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from itertools import pairwise

import msgspec
import numpy as np

from penstock.core.clock import Clock
from penstock.engine.features import FeatureState
from penstock.engine.kernel_rows import KernelRows
from penstock.engine.key_blobs import BlobNames, Published, seal
from penstock.engine.local import LocalEngine
from penstock.engine.ports import BlobStore
from penstock.engine.view_states import Exported
from penstock.kernel.columns import Text, offsets_of
from penstock.kernel.state import NO_EVENT, Op

CHUNK = 128
"""Most keys that are taken out at once: the engine waits meanwhile."""
SIGN_US = 1_000_000
"""How often it is noted up to where all is published, though nothing changed."""
SWEEP_US = 60_000_000
"""How often keys are looked for that left the state."""
_LAST = 1 << 53
_decoder = msgspec.json.Decoder(Published)

Keys = dict[bytes, None]


class Publisher:
    """Publishes the states of an engine's keys; for one thread.

    Parameters
    ----------
    engine
        Whose states.
    store_id
        Of which log.
    wait_until_durable
        Returns when the log is stored up to a position; raises `StoreError` where it will not be.
    blobs, namespace, clock
        Where to, under which name, and the time.
    most_due
        Most keys that are remembered to be due; beyond that all are published anew, from the state.
    """

    def __init__(
        self,
        engine: LocalEngine,
        *,
        store_id: str,
        wait_until_durable: Callable[[int], None],
        blobs: BlobStore,
        namespace: str,
        clock: Clock,
        most_due: int = 1_000_000,
    ) -> None:
        self._engine, self._blobs, self._clock = engine, blobs, clock
        self._store_id, self._namespace = store_id, namespace
        self._wait_until_durable, self._most_due = wait_until_durable, most_due
        self._features: FeatureState | None = None
        self._names = BlobNames.of(engine.plan, namespace)
        self._due: list[Keys] = []
        self._rest: list[tuple[int, Text]] = []
        """What of all keys is still to be published: views, and their keys."""
        self._token = secrets.token_bytes(16)
        """Lies in the store from the beginning on: where it is gone, so is what was published."""
        self._begun = False
        self._signed: Published | None = None
        self._swept_us, self._evicted = 0, -1

    @property
    def due(self) -> int:
        """How many states are to be published."""
        return sum(map(len, self._due)) + sum(len(keys) for _, keys in self._rest)

    def step(self) -> bool:
        """Publish some keys, or note that all are; whether there is more to do at once.

        Raises
        ------
        StoreError
            The blob store, or the project's, does not answer; the next step goes on where this one was.
        """
        position, touched = self._engine.at_rest(self._take_notes)
        self._note(touched)
        if not self._begun:
            self._begin(position)
        if self._publish_some():
            return True
        if not self._sign(position):
            self._begun, self._signed, self._features = False, None, None
            return True
        self._sweep()
        return False

    def _take_notes(self, features: FeatureState) -> list[tuple[int, KernelRows]]:
        """The rows since the last look; of a state that is new here, all keys are due."""
        if features is not self._features or sum(map(len, self._due)) > self._most_due:
            self._features = features
            self._names = BlobNames.of(features.plan, self._namespace)
            self._due = [{} for _ in features.views]
            self._rest = [(i, view.keys()) for i, view in enumerate(features.views)]
            features.touched, self._evicted = [], -1
            return []
        touched, features.touched = features.touched or [], []
        return touched

    def _note(self, touched: list[tuple[int, KernelRows]]) -> None:
        for view, rows in touched:
            applied = rows.ops == Op.APPLY
            if rows.keys.valid is not None:
                applied &= rows.keys.valid
            if applied.any():
                self._due[view].update(dict.fromkeys(_bytes_of(rows.keys.take(np.flatnonzero(applied)))))

    def _begin(self, position: int) -> None:
        """Drop what another log has published, or this one before it was restored to an earlier time."""
        (found,) = self._blobs.get([self._names.published])
        if found is not None:
            published = _decoder.decode(found[1])
            if published.store != self._store_id or published.position > position:
                for names in self._blobs.names(self._names.prefix):
                    self._blobs.delete(names, _LAST)
        self._blobs.put([(self._names.begun, self._token)], position)
        self._begun = True

    def _publish_some(self) -> bool:
        """Steps 2 and 3; whether there were any."""
        view, keys = self._next()
        if not len(keys):
            return False
        features = self._features

        def export(now: FeatureState) -> Exported | None:
            return now.views[view].export(keys) if now is features else None

        position, exported = self._engine.at_rest(export)
        if exported is None:  # other definitions are in force: all is due anew
            return True
        self._wait_until_durable(position)
        fingerprint, prefix = self._names.views[view], self._names.view(view)
        names, states = [prefix + key for key in _bytes_of(keys)], exported.blobs()
        pairs = list(zip(names, states, strict=True))
        kept = [(name, seal(fingerprint, position, state)) for name, state in pairs if state is not None]
        if kept:
            self._blobs.put(kept, position)
        if len(kept) < len(pairs):
            self._blobs.delete([name for name, state in pairs if state is None], position)
        self._done(view, keys)
        return True

    def _next(self) -> tuple[int, Text]:
        """Some keys of a view that are due; those that changed go first."""
        for view, due in enumerate(self._due):
            if due:
                return view, _texts_of([key for key, _ in zip(due, range(CHUNK), strict=False)])
        while self._rest and not len(self._rest[-1][1]):
            self._rest.pop()
        if not self._rest:
            return 0, _texts_of([])
        view, keys = self._rest[-1]
        return view, keys.take(slice(0, CHUNK))

    def _done(self, view: int, keys: Text) -> None:
        if self._due[view]:
            for key in _bytes_of(keys):
                self._due[view].pop(key, None)
            return
        _, rest = self._rest.pop()
        self._rest.append((view, rest.take(slice(len(keys), len(rest)))))

    def _sign(self, position: int) -> bool:
        """Step 4; also a sign of life. False where the store has lost what was published: it came up empty, or as of an earlier time."""
        now_us, last = self._clock.now_us(), self._signed
        if last is not None and last.position == position and now_us - last.at_us < SIGN_US:
            return True
        if last is not None:
            (found,) = self._blobs.get([self._names.published])
            if found is None or found[0] < last.position:
                return False
        self._wait_until_durable(position)
        signed = Published(self._store_id, position, now_us, self._names.views)
        self._blobs.put([(self._names.published, msgspec.json.encode(signed))], position)
        self._signed = signed
        (begun,) = self._blobs.get([self._names.begun])
        if begun is None or begun[1] != self._token:
            self._blobs.delete([self._names.published], position)
            return False
        return True

    def _sweep(self) -> None:
        """Drop states of other definitions, and of keys that left: now and then, where there may be any."""
        features, now_us = self._features, self._clock.now_us()
        if features is None or features.evicted_keys == self._evicted:
            return
        if self._evicted >= 0 and now_us - self._swept_us < SWEEP_US:
            return
        self._evicted, self._swept_us = features.evicted_keys, now_us
        for names in self._blobs.names(self._names.prefix):
            position, gone = self._engine.at_rest(lambda now, names=names: self._gone(now, names))  # type: ignore[misc]
            if gone:
                self._blobs.delete(gone, position)

    def _gone(self, now: FeatureState, names: list[bytes]) -> list[bytes]:
        """Which of these names are of no key that is held."""
        if now is not self._features:
            return []
        gone: list[bytes] = []
        known: dict[int, list[tuple[bytes, bytes]]] = {}
        for name in names:
            parsed = self._names.parse(name)
            if parsed is not None:
                known.setdefault(parsed[0], []).append((name, parsed[1]))
            elif name not in (self._names.published, self._names.begun):
                gone.append(name)
        for view, of_view in known.items():
            newest = now.views[view].newest(_texts_of([key for _, key in of_view]))
            gone += [name for (name, _), at in zip(of_view, newest.tolist(), strict=True) if at == NO_EVENT]
        return gone


def _bytes_of(texts: Text) -> list[bytes]:
    data = texts.data.tobytes()
    return [data[a:b] for a, b in pairwise(texts.offsets.tolist())]


def _texts_of(texts: list[bytes]) -> Text:
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    return Text(offsets_of(lengths), np.frombuffer(b"".join(texts), np.uint8))
