"""Tags: names and values that users give to definitions, for the catalog."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.core.errors import DefinitionError

Tags = tuple[tuple[str, str], ...]


def tags_of(tags: Mapping[str, str] | None, *, owner: str) -> Tags:
    """`tags` as sorted pairs; values mean nothing to Penstock and are part of no fingerprint.

    Raises
    ------
    DefinitionError
        A name or value is no text.

    Examples
    --------
    >>> tags_of({"team": "risk", "level": "gold"}, owner="view 'spending'")
    (('level', 'gold'), ('team', 'risk'))
    """
    found: object = {} if tags is None else tags
    if not isinstance(found, Mapping) or not all(isinstance(t, str) for pair in found.items() for t in pair):
        raise DefinitionError(
            f'{owner}: tags is {tags!r}; allowed is a dict of texts. Write for example tags={{"team": "risk"}}.'
        )
    return tuple(sorted(found.items()))
