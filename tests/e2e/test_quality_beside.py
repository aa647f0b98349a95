"""The process that makes quality for `/metrics`, as it is started beside a run."""

from __future__ import annotations

import time

from penstock.app.metering import Meter
from penstock.app.quality_beside import QualityBeside
from tests.unit.app import watched
from tests.unit.app.test_measuring import feed


def test_it_writes_what_the_next_look_reads(tmp_path):
    root = watched.write(tmp_path)
    with watched.open_watched(root) as runtime:
        feed(runtime, Meter(runtime, "checkout"))
        beside = QualityBeside(root, lambda: runtime.project)
        beside.ask()
        give_up = time.monotonic() + 60
        while not beside.newest:
            beside.look()
            assert time.monotonic() < give_up
            time.sleep(0.05)
        assert beside.newest[0].endpoint == "checkout"
        assert beside.newest[0].groups[0].states["labelled"]
        beside.close()
