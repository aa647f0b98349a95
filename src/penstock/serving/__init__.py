"""The HTTP API: a thin skin over a running project. See docs/adr/0025 and docs/api.md."""
