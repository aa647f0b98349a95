"""Settings of a project: ``penstock.toml``, overridden by ``.env`` beside it, and that by environment variables.

A variable is named like ``PENSTOCK_ENGINE__DURABILITY``, in the environment and in ``.env``. docs/settings.md lists all.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, IPvAnyNetwork, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from penstock.core.errors import SettingsError
from penstock.definitions.loading import SETTINGS_FILE

ENV_FILE = ".env"
PREFIX, NESTED = "PENSTOCK_", "__"
OTHER_VARIABLES = {
    "PENSTOCK_API_KEY": "The key that `penstock live-data` shows.",
    "PENSTOCK_DEBUG": "1: show the traceback of an error.",
    "PENSTOCK_KEY": "The key that `penstock.client` shows.",
    "PENSTOCK_URL": "Where `penstock.client` finds the API.",
}
"""Variables that are no settings of a project, and what they do."""


class ProjectSettings(BaseModel):
    """``[project]``: which files hold the definitions, and the project's name."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(None, description="The project's name; default: the folder's.")
    definitions: list[str] | None = Field(
        None, description="Files with definitions; default: all Python files of the folder but tests."
    )


class EngineSettings(BaseModel):
    """``[engine]``: how the engine runs."""

    model_config = ConfigDict(extra="forbid")

    durability: Literal["power", "process"] = Field(
        "power",
        description="What an acknowledged event survives: a power cut, or only the end of the process.",
    )
    batch_rows: int = Field(4096, ge=1, le=1_000_000, description="Most events in one micro-batch of a file.")
    snapshot_rows: int = Field(
        1_000_000, ge=1, description="Events after which state is written to a snapshot in the background."
    )
    max_dead_letters: int = Field(
        100_000, ge=1, description="Dead letters kept; beyond that the oldest are dropped, and counted."
    )
    max_pending_labels: int = Field(
        1_000_000,
        ge=1,
        description="Labels kept that wait for their event; beyond that the oldest are dropped, and counted.",
    )
    future_check: bool = Field(
        True, description="Refuse events further ahead of the clock than their source allows."
    )


class StoreSettings(BaseModel):
    """``[store]``: where the log, decisions and labels are kept."""

    model_config = ConfigDict(extra="forbid")

    url: str | None = Field(
        None,
        pattern=r"^postgres(ql)?://",
        description="PostgreSQL: `postgresql://user@host/database`; default: a SQLite file in `.penstock`. Give a password by PENSTOCK_STORE__URL, or in the file that libpq reads.",
    )
    namespace: str = Field(
        "penstock",
        min_length=1,
        description="The schema of the database that holds the tables: one for each project.",
    )
    migrate: bool = Field(
        True,
        description="Make the tables, and bring them up to date, when the project is opened; else only `penstock migrate` does.",
    )
    connect_timeout_s: float = Field(5.0, ge=2, le=300, description="How long connecting may take.")
    statement_timeout_s: float = Field(
        30.0,
        ge=1,
        le=3600,
        description="How long a statement may take; one that gets no answer is given up 5 s later.",
    )
    patience_s: float = Field(
        300.0,
        ge=0,
        description="How long a running project waits for a server that is away, taking no events, before it stops.",
    )


class AuditSettings(BaseModel):
    """``[audit]``: decisions recomputed from the log while the project runs."""

    model_config = ConfigDict(extra="forbid")

    rate: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of one processor that recomputing decisions may take, in a process of its own. Below 1 it skips ahead when it falls far behind; 0: no audit while running.",
    )


class OfflineSettings(BaseModel):
    """``[offline]``: the Delta Lake tables that history is kept in."""

    model_config = ConfigDict(extra="forbid")

    export: bool = Field(
        True,
        description="Append what is committed to the tables while the project runs, where deltalake is installed.",
    )
    uri: str = Field(
        ".penstock/offline",
        min_length=1,
        description="A folder, seen from the project's, or s3://bucket/path.",
    )
    block_rows: int = Field(200_000, ge=1, description="Most rows in one append to a table.")
    interval_s: float = Field(5.0, gt=0, description="Seconds between two exports while the project runs.")
    compact_files: int = Field(
        64, ge=2, description="Small files in a table from which on an export rewrites them as larger ones."
    )


class RegistrySettings(BaseModel):
    """``[registry]``: where versions of models are kept."""

    model_config = ConfigDict(extra="forbid")

    uri: str = Field(
        ".penstock/registry",
        min_length=1,
        description="A folder, seen from the project's, or MLflow: `http://host:5000`, `sqlite:///mlflow.db`.",
    )


class KafkaSettings(BaseModel):
    """``[kafka]``: brokers, what they must not read in a definition, and the topics that results go to."""

    model_config = ConfigDict(extra="forbid")

    bootstrap_servers: str | None = Field(
        None, min_length=1, description="Brokers, instead of those that definitions name."
    )
    schema_registry_url: str | None = Field(
        None, min_length=1, description="The schema registry, instead of the one that definitions name."
    )
    options: dict[str, SecretStr] = Field(
        {}, description="Settings of librdkafka for all connections: user names, passwords, keys."
    )
    schema_registry_options: dict[str, SecretStr] = Field(
        {}, description="Settings of the registry's client, such as `basic.auth.user.info`."
    )
    repartition_by: list[str] = Field(
        [],
        description="Columns by which workers send events on, one after another, for views by other keys than the topic's.",
    )
    predictions_topic: str | None = Field(
        None, min_length=1, description="Where each decision is sent, under its event's id."
    )
    feature_vectors_topic: str | None = Field(
        None, min_length=1, description="Where the features are sent that each decision was made on."
    )
    dead_letters_topic: str | None = Field(
        None,
        min_length=1,
        description="Where refused input is sent: its bytes, with the reason in the headers.",
    )


class OnlineSettings(BaseModel):
    """``[online]``: Redis or Valkey, where the engine publishes the state of each key, and replicas read it."""

    model_config = ConfigDict(extra="forbid")

    url: str | None = Field(
        None,
        pattern=r"^(rediss?|unix)://",
        description="`redis://host:port/database`; default: nothing is published. Give a password by PENSTOCK_ONLINE__URL.",
    )
    namespace: str | None = Field(
        None,
        pattern=r"^[\w.-]+$",
        description="With what the names of this project's states begin; default: the project's name.",
    )
    timeout_ms: float = Field(
        50.0, gt=0, le=60_000, description="How long a replica waits for an answer of Redis."
    )
    fresh_s: float = Field(
        10.0,
        ge=2,
        description="After how many seconds without a sign of the engine a replica's answers are flagged `stale`.",
    )
    when_away: Literal["degrade", "refuse"] = Field(
        "degrade",
        description="What a replica does without Redis: answer with nulls for what it does not know, flagged, or answer 503.",
    )


class ServeSettings(BaseModel):
    """``[serve]``: the HTTP API and the pages of `penstock up`."""

    model_config = ConfigDict(extra="forbid")

    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="The address to listen on. Any other than loopback needs keys: `penstock keys create`.",
    )
    port: int = Field(8000, ge=0, le=65535, description="The port; 0: any that is free.")
    queue_events: int = Field(
        20_000, ge=1, description="Most events that wait for the engine; beyond that requests are refused."
    )
    timeout_s: float = Field(
        10.0, gt=0, le=300, description="How long a request may take that does not say so itself."
    )
    dashboard: bool = Field(True, description="Show the pages, beside the API.")
    allowed_hosts: list[str] = Field(
        [],
        description="Names under which callers reach it, besides localhost and the address that it listens on; without ports.",
    )
    max_body_bytes: int = Field(
        16 << 20,
        ge=1 << 20,
        le=256 << 20,
        description="Most bytes of a request with many events; others: 1 MiB.",
    )
    body_timeout_s: float = Field(
        10.0, gt=0, le=300, description="How long a client may take to send a request's body."
    )
    rate: float = Field(
        0.0, ge=0, description="Requests a second of one key that has no rate of its own; 0: no limit."
    )
    session_hours: float = Field(
        12.0, gt=0, le=720, description="How long a person stays logged in to the pages."
    )
    trusted_proxies: list[IPvAnyNetwork] = Field(
        [],
        description="Addresses or networks of proxies that end TLS; their X-Forwarded-Proto says whether a browser used HTTPS.",
    )
    tls_cert: str | None = Field(None, description="A certificate chain as PEM, to serve HTTPS.")
    tls_key: str | None = Field(None, description="The certificate's private key as PEM.")


class LogSettings(BaseModel):
    """``[log]``: what `penstock up` and `penstock run` write to stderr."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["auto", "json", "pretty"] = Field(
        "auto",
        description="JSON lines, or for people; auto: JSON lines, and where stderr is a terminal warnings for people beside the usual texts.",
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least important lines that are written."
    )
    access: bool = Field(False, description="Write a line for each HTTP request.")


class Settings(BaseSettings):
    """All settings of a project."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter=NESTED, extra="forbid", toml_file=None
    )

    project: ProjectSettings = ProjectSettings()
    engine: EngineSettings = EngineSettings()
    store: StoreSettings = StoreSettings()
    audit: AuditSettings = AuditSettings()
    offline: OfflineSettings = OfflineSettings()
    registry: RegistrySettings = RegistrySettings()
    kafka: KafkaSettings = KafkaSettings()
    online: OnlineSettings = OnlineSettings()
    serve: ServeSettings = ServeSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the base class's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment before ``.env`` before the file."""
        return (init_settings, env_settings, dotenv_settings, TomlConfigSettingsSource(settings_cls))


def changed(settings: ServeSettings, given: Mapping[str, Any]) -> ServeSettings:
    """`settings` with some values given by hand; raises `SettingsError` naming each wrong one."""
    try:
        return ServeSettings.model_validate(settings.model_dump() | dict(given))
    except ValidationError as error:
        found = "; ".join(
            f"--{e['loc'][0]} is {e['input']!r}: {e['msg']}" for e in error.errors(include_url=False)
        )
        raise SettingsError(f"serve: {found}. Correct the option.") from error


@lru_cache(maxsize=8)
def _settings_in(root: Path) -> type[Settings]:
    """Reads the settings of `root` whenever it is called; to make the class takes five times as long as to call it."""

    class ForProject(Settings):
        model_config = SettingsConfigDict(
            env_prefix=PREFIX,
            env_nested_delimiter=NESTED,
            extra="forbid",
            toml_file=root / SETTINGS_FILE,
            env_file=root / ENV_FILE,
            env_file_encoding="utf-8",
            dotenv_filtering="match_prefix",  # what else it holds is for others
        )

    return ForProject


def load_settings(root: Path) -> Settings:
    """The settings of the project in `root`; raises `SettingsError` naming each wrong value."""
    try:
        return _settings_in(root)()
    except ValidationError as error:
        found = "; ".join(
            f"{'.'.join(map(str, e['loc']))} is {e['input']!r}: {e['msg']}"
            for e in error.errors(include_url=False)
        )
        raise SettingsError(
            f"settings of {root}: {found}. Correct {SETTINGS_FILE}, {ENV_FILE} or the PENSTOCK_ environment variable."
        ) from error
