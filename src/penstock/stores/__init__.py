"""What outlives the process: the project's store (SQLite), the index of event ids, snapshots."""
