"""Dead letters: what was refused, and sending it again."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from penstock.app.dead_letters import MOST, Attempt, attempts, letters_with, note_drop, note_replay, text_of
from penstock.app.runtime import audit_log_of, open_reader
from penstock.core.errors import PenstockError
from penstock.serving.access import MISSING, GuardedRoute
from penstock.serving.acting import Reason, actor_of
from penstock.serving.moments import Number, moment
from penstock.serving.paging import Cursor, Limit, cursor_of, place_of
from penstock.serving.parts import taken_or_told
from penstock.serving.platform import platform_of
from penstock.serving.shapes import AnswerShape

if TYPE_CHECKING:
    from penstock.core.records import DeadLetter
    from penstock.engine.answers import Answer
    from penstock.serving.platform import Platform

router = APIRouter(tags=["dead letters"], route_class=GuardedRoute)

EXCERPT = 200
LetterId = Annotated[int, Path(ge=1, lt=1 << 63, description="The letter's number.")]


class DeadLetterRow(BaseModel):
    """A refused input, with the beginning of its bytes."""

    id: int
    source: str
    received_at: datetime
    reason: str = Field(description="See docs/reference.md.")
    detail: str
    size: int = Field(description="Bytes.")
    excerpt: str = Field(description="The beginning, as text; bytes that are no UTF-8 are escaped.")

    @classmethod
    def of(cls, letter: DeadLetter) -> DeadLetterRow:
        """The row of a list."""
        return cls(
            id=letter.letter_id,
            source=letter.source,
            received_at=moment(letter.received_us),
            reason=letter.reason,
            detail=letter.detail,
            size=len(letter.payload),
            excerpt=text_of(letter.payload[:EXCERPT]),
        )


class DeadLetterCount(BaseModel):
    """How many letters of a source there are for a reason."""

    source: str
    reason: str
    count: int


_ROW: Any = {
    "id": 17,
    "source": "payments",
    "received_at": "2026-11-22T10:15:00.118000Z",
    "reason": "missing_field",
    "detail": "Object missing required field `amount`",
    "size": 52,
    "excerpt": '{"payment_id": "pay-82", "card_id": "card-017"}',
}


class DeadLettersPage(BaseModel):
    """Dead letters, newest first."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "items": [_ROW],
                "next": None,
                "counts": [{"source": "payments", "reason": "missing_field", "count": 1}],
            }
        }
    )

    items: list[DeadLetterRow]
    next: str | None = Field(description="Cursor of the next page; null where there is none.")
    counts: list[DeadLetterCount] = Field(description="All that are kept, whatever the filter.")


class DeadLetterAnswer(DeadLetterRow):
    """A refused input, whole."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {**_ROW, "text": '{"payment_id": "pay-82", "card_id": "card-017"}', "base64": None}
        }
    )

    text: str = Field(description="The bytes as text; those that are no UTF-8 are escaped.")
    base64: str | None = Field(description="The bytes, where they are no UTF-8.")


class ReplayRequest(BaseModel):
    """Why, and the corrected event where it is to be another."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "reason": "the shop forgot the amount",
                "corrected": {"payment_id": "pay-82", "card_id": "card-017", "amount": 12.5},
            }
        },
    )

    reason: Reason = Field(description="Kept in the audit log.")
    corrected: dict[str, Any] | str | None = Field(
        None, description="The event as an object, or its bytes as text."
    )


class ManyRequest(BaseModel):
    """Which letters, and why."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"ids": [17, 18], "reason": "the schema was widened"}}
    )

    ids: list[int] = Field(min_length=1, max_length=MOST)
    reason: Reason = Field(description="Kept in the audit log.")


class Replayed(BaseModel):
    """What became of a letter that was sent again."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": 17,
                "removed": True,
                "answer": {
                    "status": "scored",
                    "event_id": "pay-82",
                    "position": 104212,
                    "score": 0.02,
                    "action": "approve",
                },
            }
        }
    )

    id: int
    removed: bool = Field(description="Whether it was accepted; a refused letter stays as it was.")
    answer: AnswerShape


class ReplayedMany(BaseModel):
    """One result for each letter."""

    results: list[Replayed]


class Dropped(BaseModel):
    """How many letters were dropped."""

    model_config = ConfigDict(json_schema_extra={"example": {"dropped": 1}})

    dropped: int


@router.get("/v1/dead-letters", summary="List dead letters, newest first")
def dead_letters(
    request: Request,
    source: Annotated[str | None, Query(description="Only of this source.")] = None,
    reason: Annotated[str | None, Query(description="Only refused for this reason.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> DeadLettersPage:
    """Events and labels that were refused, each with the reason and what was found. They are bounded in number; the oldest go first."""
    before = None if cursor is None else place_of(cursor, Number)
    with open_reader(platform_of(request).root) as store:
        found = store.newest_dead_letters(limit, before=before, source=source, reason=reason)
        counts = store.dead_letter_counts()
    return DeadLettersPage(
        items=[DeadLetterRow.of(letter) for letter in found],
        next=cursor_of(found[-1].letter_id) if len(found) == limit else None,
        counts=[DeadLetterCount(source=s, reason=r, count=n) for (s, r), n in counts.items()],
    )


@router.get("/v1/dead-letters/{letter_id}", summary="Look up a dead letter")
def dead_letter(request: Request, letter_id: LetterId) -> DeadLetterAnswer:
    """A refused input with all of its bytes (of one that was too large, its beginning)."""
    with open_reader(platform_of(request).root) as store:
        (letter,) = letters_with(store, [letter_id])
    try:
        letter.payload.decode()
        raw = None
    except UnicodeDecodeError:
        raw = base64.b64encode(letter.payload).decode()
    row = DeadLetterRow.of(letter).model_dump()
    return DeadLetterAnswer(**row, text=text_of(letter.payload), base64=raw)


@router.post("/v1/dead-letters/replay", summary="Send several dead letters again", responses=MISSING)
async def replay_many(request: Request, body: ManyRequest) -> ReplayedMany:
    """Send letters through the engine as they are. Each that is accepted is removed in the transaction that stores its event.

    Letters of a source that could not be asked, as when too many events wait, stay, and their answers say so (`overloaded`); 429 where
    that is so of all.
    """
    found = await _replayed(request, body.ids, None, body.reason)
    return ReplayedMany(results=[_result(letter, answer) for letter, answer in found.items()])


@router.post("/v1/dead-letters/drop", summary="Drop several dead letters", responses=MISSING)
async def drop_many(request: Request, body: ManyRequest) -> Dropped:
    """Remove letters for good. The audit log keeps their numbers, not their bytes."""
    return await _dropped(request, body.ids, body.reason)


@router.post("/v1/dead-letters/{letter_id}/replay", summary="Send a dead letter again")
async def replay(request: Request, letter_id: LetterId, body: ReplayRequest) -> Replayed:
    """Send a letter through the engine, as it is or corrected.

    Accepted, it is removed in the transaction that stores its event. Refused again, it stays as it was, and the answer says why.
    """
    given = body.corrected
    corrected = (
        given.encode() if isinstance(given, str) else None if given is None else msgspec.json.encode(given)
    )
    found = await _replayed(request, [letter_id], corrected, body.reason)
    return _result(letter_id, found[letter_id])


@router.delete("/v1/dead-letters/{letter_id}", summary="Drop a dead letter")
async def drop(
    request: Request,
    letter_id: LetterId,
    reason: Annotated[Reason, Query(description="Why; kept in the audit log.")],
) -> Dropped:
    """Remove a letter for good. The audit log keeps its number, not its bytes."""
    return await _dropped(request, [letter_id], reason)


async def _replayed(
    request: Request, letter_ids: list[int], corrected: bytes | None, reason: str
) -> dict[int, Answer]:
    platform = platform_of(request)
    platform.check_ready()
    letters = await run_in_threadpool(_letters, platform, letter_ids)
    sending = attempts(letters, corrected=corrected)
    for attempt in sending:
        platform.runtime.source_name(attempt.source)
    log = audit_log_of(platform.root, clock=platform.runtime.clock)
    actor = actor_of(request)
    await run_in_threadpool(
        lambda: note_replay(log, letters, corrected=corrected, actor=actor, reason=reason)
    )
    told = {attempt.source: await _tried(platform, attempt) for attempt in sending}
    answers = taken_or_told(told, {attempt.source: len(attempt.letters) for attempt in sending})
    found = {
        letter: answer
        for attempt in sending
        for letter, answer in zip(attempt.letters, answers[attempt.source], strict=True)
    }
    return {letter.letter_id: found[letter.letter_id] for letter in letters}


async def _tried(platform: Platform, attempt: Attempt) -> list[Answer] | PenstockError:
    try:
        return await platform.asker.ask(
            attempt.source,
            attempt.data,
            len(attempt.letters),
            timeout_s=platform.settings.timeout_s,
            letters=attempt.letters,
        )
    except PenstockError as error:
        return error


async def _dropped(request: Request, letter_ids: list[int], reason: str) -> Dropped:
    platform = platform_of(request)
    platform.check_ready()
    letters = await run_in_threadpool(_letters, platform, letter_ids)
    log = audit_log_of(platform.root, clock=platform.runtime.clock)
    actor = actor_of(request)
    await run_in_threadpool(lambda: note_drop(log, letters, actor=actor, reason=reason))
    ids = tuple(letter.letter_id for letter in letters)
    await platform.asker.ask("", b"", 0, timeout_s=platform.settings.timeout_s, letters=ids)
    return Dropped(dropped=len(ids))


def _letters(platform: Platform, letter_ids: list[int]) -> list[DeadLetter]:
    with open_reader(platform.root) as store:
        return letters_with(store, letter_ids)


def _result(letter_id: int, answer: Answer) -> Replayed:
    return Replayed(
        id=letter_id, removed=answer.status != "rejected", answer=AnswerShape.model_validate(answer.to_dict())
    )
