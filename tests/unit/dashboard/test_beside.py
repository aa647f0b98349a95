"""The process of the pages is started, started anew where it ended, and ended with the server."""

from types import SimpleNamespace

from penstock.dashboard import beside
from penstock.dashboard.beside import AGAIN_S, PagesBeside


class Started:
    """A process that ends when it is told to."""

    made: list["Started"]

    def __init__(self, *arguments, logs):
        self.arguments, self.logs, self.returncode, self.ended = arguments, logs, None, False
        self.made.append(self)

    def end(self, _patience_s):
        self.ended = True


def test_it_is_mended_at_most_every_few_seconds(monkeypatch, tmp_path):
    Started.made = []
    monkeypatch.setattr(beside, "Child", Started)
    now = [100.0]
    runtime = SimpleNamespace(project=SimpleNamespace(root=tmp_path))
    with PagesBeside(runtime, now_s=lambda: now[0]) as pages:
        folder = pages.folder
        assert folder.stat().st_mode & 0o777 == 0o700, "nobody else may ask inside"
        pages.mend()
        assert len(Started.made) == 1, "it runs"
        Started.made[0].returncode = 1
        pages.mend()
        assert len(Started.made) == 1, "it was started a moment ago"
        now[0] += AGAIN_S
        pages.mend()
        pages.mend()
        assert len(Started.made) == 2
    assert Started.made[1].ended
    assert not folder.exists()
