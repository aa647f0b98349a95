"""Secret keys: made once, the same for all, and nobody else's to read."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from penstock.core.errors import StoreError
from penstock.stores.secrets import kept_secret


def test_a_key_is_made_once_by_many_at_the_same_time(tmp_path):
    path = tmp_path / "new" / "a.key"
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: kept_secret(path), range(32)))
    assert len(found) == 1
    assert len(found.pop()) == 32
    assert [one.name for one in path.parent.iterdir()] == ["a.key"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert kept_secret(path) != kept_secret(tmp_path / "b.key")


def test_a_key_that_others_may_read_or_that_is_damaged_is_refused(tmp_path):
    path = tmp_path / "a.key"
    kept_secret(path)
    path.chmod(0o640)
    with pytest.raises(StoreError, match=r"its mode is 0640.*chmod 600"):
        kept_secret(path)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(StoreError, match="5 bytes found, 32 were written"):
        kept_secret(path)


def test_what_the_system_says_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"secret key .*file/a.key"):
        kept_secret(tmp_path / "file" / "a.key")
