"""Whether a gate's report allows the promotion that names it: of this version, a pass, and against who is live now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock.core.errors import ModelError

if TYPE_CHECKING:
    from penstock.models.history import HistoryRow
    from penstock.models.versions import ModelVersion


class _Judged(msgspec.Struct):
    """What of a `penstock.models.gates.GateReport` is asked for here."""

    verdict: str
    challenger: str
    challenger_digest: str
    champion: str | None
    champion_digest: str | None


_judged_decoder = msgspec.json.Decoder(_Judged)


def check_allowed(report: bytes, row: HistoryRow, champion: ModelVersion | None) -> None:
    """Raise `ModelError` unless `report` allows `row`, by which a version is promoted while `champion` is live."""
    label = f"{row.name}:{row.version}"
    try:
        judged = _judged_decoder.decode(report)
    except msgspec.DecodeError as error:
        raise ModelError(
            f"Model {label}: its gate's report {row.gate[:16]} is none ({error}). Judge it again: penstock gate."
        ) from error
    if (judged.challenger, judged.challenger_digest) != (label, row.digest):
        raise ModelError(
            f"Model {label}: the gate's report {row.gate[:16]} is about {judged.challenger} with other files. Judge this one."
        )
    if judged.verdict != "pass":
        raise ModelError(
            f"Model {label}: the verdict of the gate's report {row.gate[:16]} is {judged.verdict}; asked is pass. Wait for labels "
            "or train again."
        )
    live = (None, None) if champion is None else (champion.label, champion.digest)
    if row.stage == "Production" and (judged.champion, judged.champion_digest) != live:
        raise ModelError(
            f"Model {label}: it was judged against {judged.champion or 'no champion'}, and {live[0] or 'none'} is live now. "
            "Judge it again."
        )
