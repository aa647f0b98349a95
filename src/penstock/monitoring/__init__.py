"""Figures about a running system: pure statistics in bounded memory, and their presentation. No I/O."""
