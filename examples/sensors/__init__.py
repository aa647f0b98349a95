"""Sensors of machines: what is unusual, without anybody having said what is."""
