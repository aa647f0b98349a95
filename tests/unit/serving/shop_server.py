"""Projects to serve: the template's, trained once, and a small one with arms; and a job's process that does as it is told."""

import shutil
import sys
import tempfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from textwrap import dedent

import httpx
from typer.testing import CliRunner

from penstock.cli.init import write_project
from penstock.cli.main import app
from penstock.testing.serving import serving_project
from tests.unit.app import arms

WHY = {"reason": "a test"}


@cache
def template() -> Path:
    """The template's project after a run, with two versions of its model, of which the first is live; do not change it."""
    root = Path(tempfile.mkdtemp(prefix="penstock-")) / "shop"
    write_project(root)
    for command in (
        ["run"],
        ["train", "fraud"],
        ["registry", "promote", "fraud", "1", "--skip-gate", "the first"],
        ["train", "fraud"],
        ["run", "payments=" + str(root / "data" / "next_week.ndjson")],
    ):
        done = CliRunner().invoke(app, [*command, "--project", str(root)])
        assert done.exit_code == 0, done.output
    return root


def copied(root, folder):
    shutil.copytree(root, folder / "shop")
    return folder / "shop"


def arms_project(folder):
    """Champion and challenger, and a model with fewer features."""
    root = arms.write_project(folder)
    arms.promote(root, arms.register(root))
    arms.promote(root, arms.register(root, shift=30.0), "Staging")
    arms.promote(root, arms.register(root, "narrow"))
    return root


@contextmanager
def asking(root, **given):
    """The project served, and a client of it."""
    with serving_project(root, **given) as served, httpx.Client(base_url=served.url, timeout=300) as client:
        yield served, client


CHILD = dedent("""
    import json, os, sys, time
    asked = json.loads(sys.stdin.readline())
    what = asked["params"]
    def say(**message):
        print(json.dumps(message), flush=True)
    for step in range(what.get("steps", 0)):
        say(done=step + 1, total=what["steps"], said=f"step {step + 1}")
    if "note" in what:
        open(what["note"], "a").write(str(os.getpid()) + "\\n")
    if "say" in what:
        print(what["say"], flush=True)
    if "until" in what:
        while not os.path.exists(what["until"]):
            time.sleep(0.01)
    if "stderr" in what:
        sys.stderr.write(what["stderr"] * what.get("times", 1))
    if "raise" in what:
        say(error={"kind": what["raise"], "detail": "it is not there"})
        sys.exit(1)
    if "signal" in what:
        os.kill(os.getpid(), what["signal"])
    if "exit" in what:
        sys.exit(what["exit"])
    say(result={"of": asked["kind"], "nice": os.nice(0)})
""")


def child_command(folder):
    """A process that does as the parameters of its job say, without loading anything."""
    path = folder / "child.py"
    path.write_text(CHILD)
    return [sys.executable, "-S", str(path)]


def events(start, count, **more):
    """Events of the project with arms, as JSON has them; `more` changes ids."""
    prefix = more.get("prefix", "")
    return [
        one | {"id": prefix + one["id"], "at": one["at"].isoformat()} for one in arms.events(start, count)
    ]
