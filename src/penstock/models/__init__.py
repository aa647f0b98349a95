"""Everything around a model except its features: split, train, evaluate, export, verify, register, score."""
