"""Dead letters: replaying and dropping what was refused. A letter leaves in the transaction that stores its event."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from penstock.app.event_lines import one_line
from penstock.core.errors import InputError, NotFoundError
from penstock.engine.answers import Answer, answers_of
from penstock.engine.effects import LetterChanges

if TYPE_CHECKING:
    from penstock.app.runtime import Runtime
    from penstock.core.records import DeadLetter
    from penstock.stores.audit_log import AuditLog
    from penstock.stores.reader import ProjectReader

MOST = 1000
"""Most letters that are replayed or dropped at once."""

_CUT_OFF = "event_too_large"


class Attempt(msgspec.Struct, frozen=True):
    """Letters of one source as lines to be sent again, one a letter."""

    source: str
    letters: tuple[int, ...]
    data: bytes


def letters_with(store: ProjectReader, letter_ids: Sequence[int]) -> list[DeadLetter]:
    """The dead letters with these ids, in their order; `NotFoundError` where one is not there (any more)."""
    if len(letter_ids) > MOST:
        raise InputError(
            f"dead letters: {len(letter_ids)} are asked for at once; allowed are {MOST}. Name fewer."
        )
    found = {letter.letter_id: letter for letter in store.dead_letters_with(letter_ids)}
    for wanted in letter_ids:
        if wanted not in found:
            raise gone(wanted)
    return [found[wanted] for wanted in dict.fromkeys(letter_ids)]


def gone(letter_id: int) -> NotFoundError:
    """What who asks for a letter is told that is not there."""
    return NotFoundError(
        f"dead letter {letter_id} does not exist; it was replayed or dropped, or made room for newer ones. See "
        "`penstock dead-letters list`."
    )


def attempts(letters: Sequence[DeadLetter], *, corrected: bytes | None = None) -> list[Attempt]:
    """What is to be sent again, by source; `corrected` in place of the bytes of the only letter.

    Raises `InputError` for a letter whose event was not kept whole, and for corrections of several.
    """
    if corrected is not None and len(letters) != 1:
        raise InputError(
            f"dead letters: corrected bytes are given for {len(letters)} letters; allowed is one. Correct them one by one."
        )
    lines: dict[str, dict[int, bytes]] = {}
    for letter in letters:
        lines.setdefault(letter.source, {})[letter.letter_id] = _line(letter, corrected)
    return [Attempt(source, tuple(found), b"\n".join(found.values())) for source, found in lines.items()]


def _line(letter: DeadLetter, corrected: bytes | None) -> bytes:
    if corrected is None and (letter.reason == _CUT_OFF or not letter.payload):
        kept = "only its beginning was kept" if letter.payload else "its bytes were not kept"
        raise InputError(
            f"dead letter {letter.letter_id} ({letter.reason}): {kept}, so it cannot be sent again as it is. Give the corrected "
            "event."
        )
    # An empty line would be no event; `null` is refused like any value that is none.
    return one_line(letter.payload if corrected is None else corrected) or b"null"


def note_replay(
    log: AuditLog, letters: Sequence[DeadLetter], *, corrected: bytes | None, actor: str, reason: str
) -> None:
    """Note in the audit log that letters are sent again; before they are, so that none ever is without a note."""
    digest = {} if corrected is None else {"corrected_sha256": hashlib.sha256(corrected).hexdigest()}
    _note(log, "dead_letters.replay", letters, digest, actor=actor, reason=reason)


def note_drop(log: AuditLog, letters: Sequence[DeadLetter], *, actor: str, reason: str) -> None:
    """Note in the audit log that letters are dropped."""
    _note(log, "dead_letters.drop", letters, {}, actor=actor, reason=reason)


def _note(
    log: AuditLog,
    action: str,
    letters: Sequence[DeadLetter],
    more: Mapping[str, str],
    *,
    actor: str,
    reason: str,
) -> None:
    ids: dict[str, list[int]] = {}
    for letter in letters:
        ids.setdefault(letter.source, []).append(letter.letter_id)
    log.append(action, ", ".join(sorted(ids)), {"letters": ids, **more}, actor=actor, reason=reason)


def replay(
    runtime: Runtime, letters: Sequence[DeadLetter], *, corrected: bytes | None = None
) -> dict[int, Answer]:
    """Send letters through the engine of a project that is open here, and return the answer to each by its id."""
    found: dict[int, Answer] = {}
    for attempt in attempts(letters, corrected=corrected):
        changes = LetterChanges({attempt.source: dict(enumerate(attempt.letters))})
        decoded = runtime.decode(attempt.source, attempt.data)
        processed = runtime.process([(attempt.source, decoded)], overlap=False, letters=changes)
        answers = answers_of(processed.outcomes[0], runtime.plan, runtime.engine.rows)
        found |= dict(zip(attempt.letters, answers, strict=True))
    return found


def drop(runtime: Runtime, letters: Sequence[DeadLetter]) -> None:
    """Remove letters from a project that is open here."""
    changes = LetterChanges(dropped=[letter.letter_id for letter in letters])
    runtime.process([], overlap=False, letters=changes)


def text_of(payload: bytes) -> str:
    r"""The bytes of a letter as text; what is no UTF-8 is escaped.

    >>> text_of(b'{"shop":"\xff"}')
    '{"shop":"\\xff"}'
    """
    return payload.decode("utf-8", "backslashreplace")
