"""Destination and store on a search server: one implementation, behind a small port that two thin clients fill."""

from __future__ import annotations

from connectors.backends.server.backend import ServerBackend
from connectors.backends.server.client import Client, Response, Transport
from connectors.backends.server.names import ELASTICSEARCH, OPENSEARCH, Product

__all__ = ["ELASTICSEARCH", "OPENSEARCH", "Client", "Product", "Response", "ServerBackend", "Transport"]
