"""Clients of the HTTP API: `Client`, and `AsyncClient` with the same methods to be awaited."""

from penstock.client.asynchronous import AsyncClient
from penstock.client.blocking import Client

__all__ = ["AsyncClient", "Client"]
