"""Alertmanager, from Debian, with the routes that are deployed, and a webhook on this machine."""

from __future__ import annotations

from typing import Any

import yaml

from services.base import HOST, ROOT, Service, http_ready, port

DEPLOYED = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"


class Alertmanager(Service):
    """A server alone, that tells `webhook` at once."""

    name = "alertmanager"
    default_port = 19093
    programs = ("prometheus-alertmanager",)

    @property
    def address(self) -> str:
        """Its HTTP API."""
        return f"http://{HOST}:{self.port}"

    @property
    def webhook(self) -> str:
        """Where it sends its messages."""
        return f"http://{HOST}:{port(19095)}/"

    def prepare(self) -> None:
        """Write the configuration."""
        (self.folder / "alertmanager.yml").write_text(yaml.safe_dump(self._configuration()))

    def command(self) -> list[str]:
        """The server, without a cluster."""
        return [
            "prometheus-alertmanager",
            f"--config.file={self.folder / 'alertmanager.yml'}",
            f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address={HOST}:{self.port}",
            "--cluster.listen-address=",
        ]

    def ready(self) -> bool:
        """Whether it takes alerts."""
        return http_ready(f"{self.address}/-/ready")

    def _configuration(self) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load(DEPLOYED.read_text())
        found["route"] |= {"group_wait": "0s", "group_interval": "1s"}
        for receiver in found["receivers"]:
            for webhook in receiver["webhook_configs"]:
                webhook.pop("url_file")  # Debian's is older than this setting
                webhook["url"] = self.webhook
        return found
