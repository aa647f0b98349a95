"""The project's store in PostgreSQL: needs ``penstock[postgres]``."""
