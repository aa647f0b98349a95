"""Apache Kafka: one broker that is its own controller (KRaft), from Maven Central."""

from __future__ import annotations

import base64
import shutil
import socket
import struct
import subprocess
import uuid
from pathlib import Path

from services import maven
from services.base import HOST, Service, ServiceError, need

# An ApiVersions request: its key, version 0, a number of ours, no client id.
HELLO = struct.pack(">ihhih", 10, 18, 0, 1, -1)


class Kafka(Service):
    """A broker with replication 1; topics are made by who needs them."""

    name = "kafka"
    default_port = 19092
    programs = ("java", "mvn")

    def install(self) -> None:
        """Fetch the broker."""
        with self.lock():
            maven.install("kafka")

    def prepare(self) -> None:
        """Write the configuration, and format the storage on the first start."""
        self._properties.write_text(self._configuration())
        if not (self.folder / "data").exists():
            self._format()

    def command(self) -> list[str]:
        """The broker, with a small heap."""
        return [*self._java("-Xms256m", "-Xmx512m"), "kafka.Kafka", str(self._properties)]

    def ready(self) -> bool:
        """Whether it answers a request; the port alone is open before it serves."""
        try:
            with socket.create_connection((HOST, self.port), timeout=1) as connection:
                connection.settimeout(1)
                connection.sendall(HELLO)
                return len(connection.recv(8)) == 8
        except OSError:
            return False

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    def _java(self, *options: str) -> list[str]:
        libraries = maven.libraries("kafka")
        if not libraries.is_dir():
            raise ServiceError("kafka is not installed: run `python -m services install kafka`.")
        quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        return [need("java"), *options, quiet, "-cp", f"{libraries}/*"]

    def _format(self) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        arguments = ["format", "--standalone", f"--cluster-id={cluster}", "-c", str(self._properties)]
        tool = [*self._java("-Xmx128m"), "kafka.tools.StorageTool", *arguments]
        done = subprocess.run(tool, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            shutil.rmtree(self.folder / "data", ignore_errors=True)
            raise ServiceError(
                f"kafka: its storage cannot be formatted:\n{(done.stdout + done.stderr)[-2000:]}"
            )

    def _configuration(self) -> str:
        controller = f"{HOST}:{self.port + 2}"
        values = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.bootstrap.servers": controller,
            "log.dirs": self.folder / "data",
            "auto.create.topics.enable": "false",
            "default.replication.factor": 1,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,
            "group.consumer.min.session.timeout.ms": 1000,
            "group.consumer.min.heartbeat.interval.ms": 500,
        }
        return "".join(f"{key}={value}\n" for key, value in values.items())
