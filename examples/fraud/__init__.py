"""The flagship example: card-payment fraud, from simulated transactions to decisions."""
