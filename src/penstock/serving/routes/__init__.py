"""The routes of the HTTP API, a module a noun: each parses, calls `penstock.app`, and writes the answer."""
