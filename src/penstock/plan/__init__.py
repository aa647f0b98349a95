"""Definitions compiled to an immutable plan: validated, pruned, explained, fingerprinted. No I/O."""
