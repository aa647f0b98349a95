"""Windowed aggregation over columns: state, aggregates, snapshots. NumPy and Numba, no I/O."""
