"""Measurements against peers, each contestant in a process of its own, all in one run (`make bench`)."""
