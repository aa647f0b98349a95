"""Batch sources: tables that grow or are rewritten from time to time, whose rows enter the log like events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from penstock.core.errors import DefinitionError
from penstock.core.types import Field, check_name
from penstock.definitions.batch_configs import BatchConfig, check_batch_config
from penstock.definitions.entities import fields_of
from penstock.definitions.sources import (
    CardNumbers,
    check_card_numbers,
    check_not_negative,
    find_time_field,
)
from penstock.definitions.tags import Tags, tags_of

DEFAULT_BATCH_LATENESS = timedelta(days=1)
ROW_ID = "row_id"
"""The column that the log adds to batch rows: a digest of the row, by which a row that is read again is known."""


@dataclass(frozen=True, slots=True, init=False)
class BatchSource:
    """A table of rows, each with a time: user profiles, account balances, a nightly export.

    Every row enters the log once, as an event of this source, and counts from its time on: its timestamp plus the
    config's `data_delay`. A row whose time has not come yet waits outside the log. A row is known by its content, and by how
    many equal rows come before it in its file: read again, also from a file that was written anew, it is not taken again.
    With any other value it is a new row, and at equal times the later in the log counts.

    Parameters
    ----------
    name
        The source's name.
    batch_config
        Where the rows lie: `FileConfig`, `DeltaConfig` or `DuckDBConfig`.
    schema
        The columns of a row. A row with a missing or mistyped column becomes a dead letter; other columns are ignored.
    timestamp_field
        The column with the rows' timestamp, if the schema has several Timestamp fields.
    allowed_lateness
        How much older than the newest row of its key a row may be and still enter the features.
    card_numbers
        What happens to a row with the number of a payment card; see `StreamSource`.

    Examples
    --------
    >>> from penstock import FileConfig
    >>> from penstock.types import Field, Int64, String, Timestamp
    >>> users = BatchSource(
    ...     name="users",
    ...     batch_config=FileConfig("users.parquet", "parquet", data_delay=timedelta(hours=6)),
    ...     schema=[
    ...         Field("user_id", String),
    ...         Field("updated_at", Timestamp),
    ...         Field("age", Int64, optional=True),
    ...     ],
    ... )
    >>> users.time_field, users.data_delay
    ('updated_at', datetime.timedelta(seconds=21600))
    """

    name: str
    batch_config: BatchConfig
    schema: tuple[Field, ...]
    time_field: str
    allowed_lateness: timedelta
    card_numbers: CardNumbers
    description: str
    owner: str
    tags: Tags

    def __init__(
        self,
        name: str,
        batch_config: BatchConfig,
        *,
        schema: Sequence[Field],
        timestamp_field: str | None = None,
        allowed_lateness: timedelta = DEFAULT_BATCH_LATENESS,
        card_numbers: CardNumbers = "refuse",
        description: str = "",
        owner: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> None:
        what = f"BatchSource {check_name(name, what='BatchSource')!r}"
        check_batch_config(batch_config, owner=what)
        fields = fields_of(schema, owner=what, argument="schema")
        check_not_negative(allowed_lateness, owner=what, argument="allowed_lateness")
        check_card_numbers(card_numbers, owner=what)
        _check_row_id(fields, owner=what)
        time_field = find_time_field(timestamp_field or batch_config.timestamp_field, fields, owner=what)
        values = (
            ("name", name),
            ("batch_config", batch_config),
            ("schema", fields),
            ("time_field", time_field),
            ("allowed_lateness", allowed_lateness),
            ("card_numbers", card_numbers),
            ("description", description),
            ("owner", owner),
            ("tags", tags_of(tags, owner=what)),
        )
        for attribute, value in values:
            object.__setattr__(self, attribute, value)

    @property
    def event_id_field(self) -> None:
        """No column of the table names its rows: the log knows them by their content."""

    @property
    def data_delay(self) -> timedelta:
        """How long after its timestamp a row counts."""
        return self.batch_config.data_delay


def _check_row_id(fields: Sequence[Field], *, owner: str) -> None:
    if any(field.name == ROW_ID for field in fields):
        raise DefinitionError(
            f"{owner}: a column is named {ROW_ID!r}, which the log gives to its digest of each row; allowed is any other "
            "name. Rename the column, or leave it out of the schema."
        )
