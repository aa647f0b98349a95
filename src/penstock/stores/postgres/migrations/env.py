"""What Alembic runs: the steps that are missing, in one transaction, over the connection that it is given."""

from __future__ import annotations

from alembic import context

connection = context.config.attributes["connection"]
schema = context.config.attributes["schema"]
if connection is None:
    context.configure(dialect_name="postgresql", as_sql=True, version_table_schema=schema)
else:
    context.configure(connection=connection, version_table_schema=schema)
with context.begin_transaction():
    context.run_migrations()
