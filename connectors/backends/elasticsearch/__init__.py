"""Elasticsearch 8 and 9. Nothing else in the project imports its client library."""

from __future__ import annotations

from connectors.backends.elasticsearch.client import ElasticsearchTransport, open_elasticsearch

__all__ = ["ElasticsearchTransport", "open_elasticsearch"]
