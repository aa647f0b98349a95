"""Prometheus, from Debian, with the configuration that is deployed: its jobs and rules, other targets, and a scrape each second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from services.alertmanager import Alertmanager
from services.base import HOST, ROOT, Service, http_ready

DEPLOYED = ROOT / "deploy" / "prometheus"


class Prometheus(Service):
    """A server that scrapes what `aim` names; at first what `penstock up` serves here."""

    name = "prometheus"
    default_port = 19090
    programs = ("prometheus",)

    @property
    def address(self) -> str:
        """Its HTTP API."""
        return f"http://{HOST}:{self.port}"

    @property
    def jobs(self) -> list[str]:
        """The names of the jobs that are deployed."""
        return [job["job_name"] for job in _deployed()["scrape_configs"]]

    def aim(self, job: str, *targets: str) -> None:
        """Let a job scrape `targets` ("127.0.0.1:8000", ...) from now on; it needs no restart."""
        file = self._targets(job)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.with_suffix(".new").write_text(json.dumps([{"targets": targets}]))
        file.with_suffix(".new").rename(file)

    def prepare(self) -> None:
        """Write the configuration."""
        for job in self.jobs:
            if not self._targets(job).exists():
                self.aim(job, *([f"{HOST}:8000"] if job == "penstock" else []))
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(self._configuration()))

    def command(self) -> list[str]:
        """The server, with its data in its folder."""
        return [
            "prometheus",
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            "--storage.tsdb.retention.time=1d",
            f"--web.listen-address={HOST}:{self.port}",
        ]

    def ready(self) -> bool:
        """Whether it serves queries."""
        return http_ready(f"{self.address}/-/ready")

    def _targets(self, job: str) -> Path:
        return self.folder / "targets" / f"{job}.json"

    def _configuration(self) -> dict[str, Any]:
        """What is deployed, but for what differs between machines: where targets are, keys, and patience."""
        found = _deployed()
        found["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        found["rule_files"] = [str(DEPLOYED / "rules" / "*.yml")]
        found["alerting"]["alertmanagers"] = [
            {"static_configs": [{"targets": [f"{HOST}:{Alertmanager().port}"]}]}
        ]
        for job in found["scrape_configs"]:
            for key in ("static_configs", "authorization"):
                job.pop(key, None)
            job["file_sd_configs"] = [
                {"files": [str(self._targets(job["job_name"]))], "refresh_interval": "1s"}
            ]
        return found


def _deployed() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOYED / "prometheus.yml").read_text())
    return found
