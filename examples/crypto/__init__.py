"""Prices of coins, a quarter of an hour ahead."""
