"""The project that `penstock init` writes."""
