"""Decisions as rows say by which policy and which versions of lists they were made; null in rows of before."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, to all partitions; no row is written anew."""
    op.execute("ALTER TABLE decisions ADD COLUMN policy text, ADD COLUMN lists jsonb")


def downgrade() -> None:
    """Take the columns away; the batches keep what they said."""
    op.execute("ALTER TABLE decisions DROP COLUMN policy, DROP COLUMN lists")
