"""The first tables: those of the SQLite store, the writer's fence, decisions as rows, and snapshots."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Payloads are columns of numbers: compressing each would cost more time than it saves space.
_TABLES = (
    "CREATE TABLE meta(store_id text NOT NULL, hash_seed bigint NOT NULL)",
    "CREATE TABLE writer(epoch bigint NOT NULL, commits bigint NOT NULL, holder text NOT NULL) WITH (fillfactor = 20)",
    "INSERT INTO writer VALUES (0, 0, '')",
    "CREATE TABLE names(number integer PRIMARY KEY, name text NOT NULL UNIQUE)",
    """CREATE TABLE batches(
        id bigint PRIMARY KEY, commit_start bigint NOT NULL, commit_stop bigint NOT NULL,
        last_position bigint NOT NULL, rows integer NOT NULL, checksum bigint NOT NULL, ingest_time_us bigint NOT NULL,
        totals text, positions bytea, ids_checksum bigint, id_positions bytea, id_hashes bytea, payload bytea NOT NULL)""",
    """ALTER TABLE batches ALTER positions SET STORAGE EXTERNAL, ALTER id_positions SET STORAGE EXTERNAL,
        ALTER id_hashes SET STORAGE EXTERNAL, ALTER payload SET STORAGE EXTERNAL""",
    "INSERT INTO batches VALUES (0, 0, 0, 0, 0, 0, 0, '{}', NULL, NULL, NULL, NULL, '')",
    """CREATE TABLE labels(
        event_position bigint NOT NULL, label_position bigint NOT NULL, value double precision NOT NULL,
        known_at_us bigint NOT NULL, PRIMARY KEY (event_position, label_position))""",
    """CREATE TABLE pending_labels(
        label_position bigint PRIMARY KEY, event_hash bigint NOT NULL, source text NOT NULL,
        event_id text NOT NULL, value double precision NOT NULL, known_at_us bigint NOT NULL)""",
    "CREATE INDEX pending_labels_by_event ON pending_labels(event_hash)",
    """CREATE TABLE dead_letters(
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, source text NOT NULL, received_us bigint NOT NULL,
        reason text NOT NULL, detail text NOT NULL, payload bytea NOT NULL)""",
    "CREATE TABLE offsets(source text PRIMARY KEY, value text NOT NULL)",
    """CREATE TABLE erasures(
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, entity text NOT NULL, key_hash bytea NOT NULL,
        position bigint NOT NULL, erased_us bigint NOT NULL)""",
    """CREATE TABLE decisions(
        decided_at timestamptz NOT NULL, position bigint NOT NULL, endpoint text NOT NULL, event_id text,
        event_time timestamptz, score double precision, action text, model text, arm text, rule text,
        flags smallint NOT NULL) PARTITION BY RANGE (decided_at)""",
    "CREATE INDEX decisions_by_position ON decisions(position)",
    "CREATE INDEX decisions_by_endpoint ON decisions(endpoint, decided_at)",
    "CREATE INDEX decisions_by_event ON decisions(event_id)",
    """CREATE TABLE snapshots(
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, position bigint NOT NULL, fingerprint text NOT NULL,
        schema_hash text NOT NULL, format integer NOT NULL, digest bytea NOT NULL, state_bytes bigint NOT NULL)""",
    """CREATE TABLE snapshot_parts(
        snapshot bigint NOT NULL REFERENCES snapshots ON DELETE CASCADE, part integer NOT NULL, data bytea NOT NULL,
        PRIMARY KEY (snapshot, part))""",
    "ALTER TABLE snapshot_parts ALTER data SET STORAGE EXTERNAL",
)


def upgrade() -> None:
    """Make the tables."""
    for statement in _TABLES:
        op.execute(statement)


def downgrade() -> None:
    """Refused: the tables hold the truth."""
    raise NotImplementedError("the first tables are not taken away again: drop the schema by hand")
