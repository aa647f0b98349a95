"""The local engine: contract, features, scoring and decisions as one transaction a micro-batch."""
