"""A blob store in memory, which goes away when it is told to; and an engine's states in it."""

import time

from penstock.core.errors import StoreError
from penstock.engine.publishing import Publisher


class DictBlobs:
    """`penstock.engine.ports.BlobStore`, as a dict."""

    def __init__(self):
        self.kept = {}
        self.away = False

    def get(self, names):
        self._check()
        return [self.kept.get(name) for name in names]

    def put(self, items, position):
        self._check()
        for name, data in items:
            if name not in self.kept or self.kept[name][0] <= position:
                self.kept[name] = position, data

    def delete(self, names, position):
        self._check()
        for name in names:
            if name in self.kept and self.kept[name][0] <= position:
                del self.kept[name]

    def names(self, prefix):
        self._check()
        yield [name for name in self.kept if name.startswith(prefix)]

    def _check(self):
        if self.away:
            raise StoreError("away")


def publisher_of(engine, store, blobs, clock, **options):
    def wait(position):
        while store.next_position < position:
            time.sleep(0.0005)

    return Publisher(
        engine,
        store_id=store.store_id,
        wait_until_durable=wait,
        blobs=blobs,
        clock=clock,
        **{"namespace": "p"} | options,
    )


def publish(publisher):
    """All that is due."""
    while publisher.step():
        pass
