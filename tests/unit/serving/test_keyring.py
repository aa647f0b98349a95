"""Keys: made, found, expired and revoked in any order, seen by two processes."""

import inspect
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from penstock.core.errors import InputError, NotFoundError
from penstock.serving.keyring import Keyring
from penstock.stores.keys import KeyStore, Scope, digest_of, new_key, split_key
from penstock.testing.clock import ManualClock

NOW_US = 1_760_000_000_000_000


class Keys(RuleBasedStateMachine):
    """A server's keyring follows what a command line in another process does, within a second."""

    keys = Bundle("keys")

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "keys.db"
        self.clock, self.seconds = ManualClock(NOW_US), 0.0
        self.store = KeyStore(path)
        self.ring = Keyring(path, clock=self.clock, now_s=lambda: self.seconds)
        self.texts, self.ends, self.revoked = {}, {}, set()

    def teardown(self):
        self.folder.cleanup()

    @rule(
        target=keys,
        lasting=st.none() | st.integers(1, 20),
        scopes=st.sets(st.sampled_from(Scope), min_size=1),
    )
    def make(self, lasting, scopes):
        ends_us = None if lasting is None else self.clock.now_us() + lasting * 1_000_000
        key, text = new_key("k", sorted(scopes), now_us=self.clock.now_us(), expires_us=ends_us)
        self.store.add(key)
        self.texts[key.key_id], self.ends[key.key_id] = text, ends_us
        self.wait(1)
        assert self.store.key(key.key_id) == key
        return key.key_id

    @rule(key_id=consumes(keys))
    def revoke(self, key_id):
        self.store.revoke(key_id, self.clock.now_us())
        self.revoked.add(key_id)
        self.wait(1)
        with pytest.raises(InputError, match="revoked already"):
            self.store.revoke(key_id, self.clock.now_us())

    @rule(seconds=st.integers(1, 15))
    def wait(self, seconds):
        self.seconds += seconds
        self.clock.advance(timedelta(seconds=seconds))

    @invariant()
    def exactly_the_living_get_in(self):
        now_us = self.clock.now_us()
        for key_id, text in self.texts.items():
            ends_us = self.ends[key_id]
            lives = key_id not in self.revoked and (ends_us is None or ends_us > now_us)
            assert (self.ring.authenticate(text) is not None) == lives
            assert self.ring.authenticate(text[:-1] + ("A" if text[-1] != "A" else "B")) is None
            assert self.ring.authenticate(text.replace("pst_", "pst_0")) is None
        assert self.ring.is_empty == (not self.texts)


TestKeys = Keys.TestCase
TestKeys.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)


def test_the_file_holds_no_key_and_is_its_owners(tmp_path):
    store = KeyStore(tmp_path / "keys.db")
    key, text = new_key("shop", [Scope.SCORE], now_us=NOW_US)
    store.add(key)
    secret = split_key(text)[1]
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert secret.encode() not in kept
    assert key.digest in kept
    assert (tmp_path / "keys.db").stat().st_mode & 0o777 == 0o600
    assert len(secret) == 43
    assert repr(key.digest) not in repr(key)


def test_a_key_cannot_be_brought_back_or_widened(tmp_path):
    import sqlite3

    store = KeyStore(tmp_path / "keys.db")
    key, _ = new_key("shop", [Scope.READ], now_us=NOW_US)
    store.add(key)
    connection = sqlite3.connect(tmp_path / "keys.db")
    for change in ("UPDATE keys SET scopes = 'admin'", "DELETE FROM keys", "UPDATE keys SET digest = x'00'"):
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(change)
    connection.close()
    store.revoke(key.key_id, NOW_US)
    connection = sqlite3.connect(tmp_path / "keys.db")
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute("UPDATE keys SET revoked_us = NULL")
    connection.close()


def test_unknown_keys_are_named(tmp_path):
    with pytest.raises(NotFoundError, match="there are none"):
        KeyStore(tmp_path / "keys.db").key("0a")


def test_secrets_are_compared_in_constant_time_and_only_by_digest():
    source = inspect.getsource(Keyring.authenticate)
    assert "hmac.compare_digest(" in source
    assert "==" not in source
    assert len(digest_of("x")) == 32
