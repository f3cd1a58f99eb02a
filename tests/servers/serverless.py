"""A project of Elastic Cloud Serverless, imitated: what its documentation says it refuses, in front of a real server.

Nobody can start such a project on a machine of their own. `Serverless` is a fault for `FaultProxy` that passes on what
a project takes, and answers what it does not take as one does: the settings of an index that are not in the documented
list, names of indices with a dot in front, and everything about nodes and shards.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.servers.faults import Exchange, Headers, Reply, Request, Rule, any_request
from tests.servers.proxy import FaultProxy

__all__ = ["Serverless", "serverless_proxy"]

_JSON: Final[Headers] = ((b"content-type", b"application/json"), (b"x-elastic-product", b"Elasticsearch"))
#: https://www.elastic.co/docs/reference/elasticsearch/index-settings/serverless
_SETTINGS: Final = re.compile(
    r"index\.(codec|default_pipeline|final_pipeline|hidden|mode|query\.default_field|refresh_interval|sort\..*|"
    r"blocks\.(read_only|read|write|metadata)|mapping\.(coerce|ignore_above|ignore_malformed|source\.mode|"
    r"synthetic_source_keep|total_fields\.(limit|ignore_dynamic_beyond_limit))|lifecycle\.origination_date|"
    r"time_series\..*|look_(ahead|back)_time|routing_path|similarity\..*|analysis\..*)"
)
_INTERNAL: Final = re.compile(
    r"/_(nodes|cluster/(?!.*component)|stats|segments|shard_stores|recovery|flush|forcemerge|cache|snapshot|ilm|slm|"
    r"cat/(nodes|shards|health|allocation|recovery|segments|thread_pool|master|pending_tasks))\b|"
    r"/[^/]+/_(close|open|stats|segments|shard_stores|recovery|flush|forcemerge|cache|shrink|split|clone|freeze)\b"
)
_NOT_PERMITTED: Final = frozenset({"local", "master_timeout", "wait_for_active_shards"})
_SYSTEM: Final = re.compile(r"/\.elastic-connectors")
_MAKES_INDEX: Final = re.compile(r"/(\.[^/]+)(/_(doc|create|bulk)\b.*)?")


class Serverless:
    """Takes and refuses what a serverless project does.

    Attributes:
        refused: what was refused, in words.
    """

    def __init__(self) -> None:
        self.refused: list[str] = []

    async def apply(self, exchange: Exchange) -> Reply:
        """Returns the server's answer, or a project's refusal."""
        request = exchange.request
        path = unquote(urlsplit(request.target).path)
        if (refusal := _refusal(request, path)) is not None:
            self.refused.append(f"{request.method} {path}")
            status, kind, reason = refusal
            return _reply(status, {"error": {"type": kind, "reason": reason}, "status": status})
        if path.startswith("/_connector"):
            return _reply(200, {"count": 0, "results": []})
        reply = await exchange.forward()
        return _introduced(reply) if path == "/" else reply


def serverless_proxy(url: str) -> tuple[FaultProxy, Serverless]:
    """Returns a proxy that makes a real server look like a serverless project, and what remembers the refusals."""
    project = Serverless()
    return FaultProxy(url, [Rule(project, any_request, times=None)]), project


def _refusal(request: Request, path: str) -> tuple[int, str, str] | None:
    if _INTERNAL.match(path):
        reason = f"Request for uri [{request.target}] with method [{request.method}] exists but is not available"
        return 410, "api_not_available_exception", f"{reason} when running in serverless mode"
    for name, value in parse_qsl(urlsplit(request.target).query, keep_blank_values=True):
        if name in _NOT_PERMITTED:
            reason = f"The http parameter [{name}] (with value [{value}]) is not permitted when running in serverless"
            return 400, "illegal_argument_exception", f"{reason} mode"
    if _SYSTEM.match(path):
        return 403, "security_exception", f"action is unauthorized for restricted indices [{path.split('/')[1]}]"
    if request.method in {"PUT", "POST"} and (made := _MAKES_INDEX.fullmatch(path)):
        reason = f"Index [{made[1]}] name beginning with a dot (.) is not allowed"
        return 400, "illegal_argument_exception", reason
    if request.method == "PUT" and (wrong := sorted(set(_unavailable(request, path)))):
        reason = f"Settings [{','.join(wrong)}] are not available when running in serverless mode"
        return 400, "illegal_argument_exception", reason
    return None


def _unavailable(request: Request, path: str) -> Iterator[str]:
    """Yields the settings of a request that a project does not have."""
    body = json.loads(request.content) if request.content else {}
    if path.endswith("/_settings"):
        settings = body.get("settings", body)
    elif path.startswith("/_index_template/"):
        settings = body.get("template", {}).get("settings", {})
    elif path.count("/") == 1:
        settings = body.get("settings", {})
    else:
        return
    for name in _names(settings):
        full = name if name.startswith("index.") else f"index.{name}"
        if not _SETTINGS.fullmatch(full):
            yield full


def _names(settings: Any, prefix: str = "") -> Iterator[str]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _names(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _introduced(reply: Reply) -> Reply:
    """Returns the answer to `GET /` as a project gives it: the version stands still."""
    answer = json.loads(reply.body)
    answer |= {"name": "serverless", "cluster_name": answer["cluster_uuid"]}
    answer["version"] = {
        "number": "8.11.0",
        "build_flavor": "serverless",
        "build_type": "docker",
        "build_hash": "00000000",
        "build_date": "2023-10-31",
        "build_snapshot": False,
        "lucene_version": "9.7.0",
        "minimum_wire_compatibility_version": "8.11.0",
        "minimum_index_compatibility_version": "8.11.0",
    }
    return _reply(200, answer)


def _reply(status: int, body: Any) -> Reply:
    return Reply(status, _JSON, json.dumps(body).encode())
