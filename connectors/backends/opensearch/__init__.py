"""OpenSearch 2 and 3. Nothing else in the project imports its client library."""

from __future__ import annotations

from connectors.backends.opensearch.client import OpenSearchTransport, open_opensearch

__all__ = ["OpenSearchTransport", "open_opensearch"]
