"""Which database a store lies in, and how long to wait for it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from penstock.core.errors import SettingsError

_MOST_BYTES = 63 - len("decisions_20260101")  # of an identifier, which PostgreSQL cuts off without a word


@dataclass(frozen=True, slots=True)
class Target:
    """A database, and the schema in it that holds the tables of one store.

    Parameters
    ----------
    url
        ``postgresql://user:password@host:port/database``, or another connection string of libpq.
    schema
        The name of the schema; a project of several shards has one for each.
    connect_timeout_s
        How long a connection may take to be made.
    statement_timeout_s
        How long a statement may take. The server ends it then; one that does not answer is given up a little later.
    """

    url: str = field(repr=False)
    schema: str = "penstock"
    connect_timeout_s: float = 5.0
    statement_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if not self.schema or len(self.schema.encode()) > _MOST_BYTES or "\0" in self.schema:
            raise SettingsError(
                f"[store] schema: it is {self.schema!r}; allowed is a name of 1 to {_MOST_BYTES} bytes. Choose another."
            )

    def shard(self, name: str) -> Target:
        """Where the shard of this name lies; "" is the project itself.

        >>> Target("postgresql://localhost/cards").shard("transactions:3").schema
        'penstock_transactions:3'
        """
        if not name:
            return self
        schema = f"{self.schema}_{name}"
        return Target(self.url, schema, self.connect_timeout_s, self.statement_timeout_s)

    def __str__(self) -> str:
        """The target without its password.

        >>> str(Target("postgresql://me:secret@db/cards"))
        'postgresql://me@db/cards, schema penstock'
        """
        shown = re.sub(r"//([^:@/]*):[^@/]*@", r"//\1@", self.url)
        shown = re.sub(r"password\s*=\s*('[^']*'|[^\s&]*)", "password=…", shown)
        return f"{shown}, schema {self.schema}"
