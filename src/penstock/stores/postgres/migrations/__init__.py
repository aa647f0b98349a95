"""The steps by which the tables of a store came about, run by Alembic; see `penstock.stores.postgres.migrating`."""
