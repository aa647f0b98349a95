"""Types, time, clock and errors: the standard library only, no I/O."""
