"""The names by which rows are cut into segments: columns of the event, and features. The one check of monitors and of gates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from penstock.core.errors import DefinitionError
from penstock.definitions.services import FeatureService
from penstock.definitions.sources import EventSource


def check_segments(
    segments: object, *, source: EventSource, features: FeatureService, short: bool = False, owner: str
) -> None:
    """Raise `DefinitionError` unless each of the `segments` names one column of the stream or one feature, each once.

    Parameters
    ----------
    segments
        What a definition says.
    source
        The stream whose events the rows are.
    features
        The features that the rows have.
    short
        Whether what follows a feature's last dot names it, too, where no other feature is called so.
    owner
        Whose segments they are, for messages.

    Raises
    ------
    DefinitionError
        With the names nearest to the wrong one, and all that are allowed.
    """
    columns = [field.name for field in source.schema]
    known = list(features.feature_types)
    if not isinstance(segments, list | tuple):
        raise DefinitionError(
            f"{owner}: segments is {segments!r}; allowed is a list of columns and features. Write for example "
            f'segments=["{columns[-1]}"].'
        )
    allowed = {*columns, *known, *(_short_names(known) if short else ())}
    unknown = [name for name in segments if name not in allowed]
    if unknown or len(set(segments)) < len(segments):
        found = (unknown or [name for name in segments if list(segments).count(name) > 1])[0]
        raise DefinitionError(
            f"{owner}: segments holds {found!r}{'' if unknown else ' twice'}; allowed, once each, "
            f"are the columns of {source.name!r} ({', '.join(columns)}) and the features of "
            f"{features.name!r} ({', '.join(known)}). {_hint(found, allowed) if unknown else 'Leave one out.'}"
        )


def _short_names(features: Sequence[str]) -> list[str]:
    """What follows the last dot of a feature's name, where it is no other's.

    >>> _short_names(["payment.is_night", "card.count", "shop.count"])
    ['is_night']
    """
    short = [name.rpartition(".")[2] for name in features]
    return [name for name in short if short.count(name) == 1]


def _hint(found: object, allowed: Iterable[str]) -> str:
    """The names nearest to the wrong one.

    >>> _hint("cuontry", ["country", "amount"])
    "Perhaps 'country' was meant."
    >>> _hint("zzz", ["country"])
    'Correct it.'
    """
    from difflib import get_close_matches

    near = get_close_matches(str(found), sorted(allowed), n=3)
    return f"Perhaps {' or '.join(map(repr, near))} was meant." if near else "Correct it."
