"""How definitions, lineage, contracts, data sets and the audit log look over HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from pydantic.config import JsonDict

_NODE: JsonDict = {
    "id": "view:card_spending",
    "kind": "view",
    "name": "card_spending",
    "type": "stream, by card_id",
    "description": "How the card was used lately.",
    "owner": "risk",
    "tags": {},
    "of": "",
}


class FieldShape(BaseModel):
    """A column of a source."""

    name: str
    type: str
    optional: bool


class SourceShape(BaseModel):
    """A source: its schema, and how new its newest rows are."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "name": "payments",
                "fields": [{"name": "payment_id", "type": "string", "optional": False}],
                "time_field": "paid_at",
                "id_field": "payment_id",
                "label_of": None,
                "is_batch": False,
                "rows": 104211,
                "newest_event": "2026-11-22T10:14:58Z",
                "received": "2026-11-22T10:15:00Z",
                "age_s": 2.1,
            }
        }
    )

    name: str
    fields: list[FieldShape]
    time_field: str
    id_field: str | None
    label_of: str | None = Field(description="Of labels: the stream whose events they are about.")
    is_batch: bool
    rows: int = Field(description="In the log.")
    newest_event: datetime | None = Field(description="The latest event time of what came last.")
    received: datetime | None = Field(description="When that came.")
    age_s: float | None = Field(description="How long that is ago.")


class NodeShape(BaseModel):
    """Something that is defined."""

    model_config = ConfigDict(json_schema_extra={"example": _NODE})

    id: str = Field(description="`kind:name`.")
    kind: str
    name: str
    type: str
    description: str
    owner: str
    tags: dict[str, str]
    of: str = Field(description="The id of what it is a part of; empty for the others.")


class EntryShape(NodeShape):
    """An entry of the catalog with what is beside it."""

    parts: list[NodeShape]
    upstream: list[str] = Field(description="Ids of what it is made from.")
    downstream: list[str] = Field(description="Ids of what is made from it.")


class EdgeShape(BaseModel):
    """That a change of one end may change the other."""

    model_config = ConfigDict(populate_by_name=True)

    from_: str = Field(alias="from")
    to: str


class GraphShape(BaseModel):
    """The definitions as a graph, in the order in which data flow."""

    nodes: list[NodeShape]
    edges: list[EdgeShape]


class AgreedShape(BaseModel):
    """A version of a source's schema."""

    number: int
    since: int = Field(description="The log position from which on events were accepted under it.")
    at: datetime
    text: str
    fields: list[FieldShape]


class ContractShape(BaseModel):
    """What a source and the log agree on."""

    source: str
    versions: list[AgreedShape]
    pending: str = Field(description="What the definitions would change; empty: nothing.")
    refused: list[str] = Field(description="Why they may not.")
    unknown: dict[str, int] = Field(
        description="Fields that no schema names: events that had each, among those looked at."
    )
    every: int = Field(description="One event in so many is looked at.")


class QuestionShape(BaseModel):
    """What a training set was asked for."""

    as_of: str
    position: int
    label: str | None
    start: datetime | None
    end: datetime | None
    label_delay_s: float | None


class TableShape(BaseModel):
    """A version of an offline table."""

    version: int
    exported: int


class DatasetShape(BaseModel):
    """A recorded training set."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "ds-0123456789ab",
                "service": "fraud_features",
                "rows": 4200,
                "columns": ["payment_id", "payment__amount"],
                "digest": "9f3c21d7",
                "question": {
                    "as_of": "served",
                    "position": 8000,
                    "label": "chargebacks",
                    "start": None,
                    "end": None,
                    "label_delay_s": None,
                },
                "tables": {"events/payments": {"version": 3, "exported": 8000}},
                "service_fingerprint": "4a0c",
                "plan_fingerprint": "77ab",
                "penstock": "0.1.0",
                "created": "2026-11-20T03:10:22Z",
                "unavailable": None,
            }
        }
    )

    id: str
    service: str
    rows: int
    columns: list[str]
    digest: str = Field(description="SHA-256 of all values.")
    question: QuestionShape
    tables: dict[str, TableShape]
    service_fingerprint: str
    plan_fingerprint: str
    penstock: str = Field(description="The version of Penstock that made it.")
    created: datetime
    unavailable: str | None = Field(description="Why it cannot be made again; null where it can.")


class AuditShape(BaseModel):
    """Who changed what, when and why."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "sequence": 12,
                "time": "2026-11-22T10:15:00Z",
                "actor": "ana",
                "action": "route",
                "subject": "checkout",
                "detail": {"weights": {"champion": 1, "challenger": 10}, "position": 104211},
                "reason": "first tenth",
            }
        }
    )

    sequence: int
    time: datetime
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    reason: str


class VerifiedShape(BaseModel):
    """What became of checking both histories."""

    clean: bool
    audit_rows: int | None = Field(description="Rows of the audit log that follow from each other.")
    registry_rows: int | None = Field(description="Rows of the models' history, files and reports checked.")
    audit_head: str = Field(
        description="The newest row's hash: kept elsewhere, it proves that none was cut off."
    )
    registry_head: str
    problems: list[str]
