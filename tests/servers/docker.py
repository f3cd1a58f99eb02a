"""Starts a server in a container, where an engine answers."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from tests.servers.flavours import Flavour
from tests.servers.process import Keep

__all__ = ["container_name", "container_port", "container_server", "engine_answers"]


@cache
def engine_answers() -> bool:
    """Says whether there is a Docker engine that this user may use; `CONNECTORS_TEST_DOCKER=0` denies it."""
    if os.environ.get("CONNECTORS_TEST_DOCKER") == "0" or shutil.which("docker") is None:
        return False
    try:
        done = subprocess.run(["docker", "info"], capture_output=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def container_name() -> str:
    """Returns a new name, by which the container is asked for its port and removed."""
    return f"connectors-test-{secrets.token_hex(6)}"


def container_server(
    flavour: Flavour,
    folder: Path,
    name: str,
    *,
    password: str | None,
    settings: Mapping[str, str],
    heap: str,
    port: int,
) -> Keep:
    """Prepares a container; port 0 is a free one of this machine. Its engine removes it, data and all, at the end."""
    options = f"-Xms{heap} -Xmx{heap} -XX:TieredStopAtLevel=1 -XX:-UsePerfData"
    environment = {
        "discovery.type": "single-node",
        "cluster.routing.allocation.disk.threshold_enabled": "false",
        **(_elasticsearch if flavour.product == "elasticsearch" else _opensearch)(options, password),
        **settings,
    }
    given = [part for key, value in environment.items() for part in ("--env", f"{key}={value}")]
    published = f"127.0.0.1:{port or ''}:9200"
    return Keep(
        command=["docker", "run", "--rm", "--name", name, "--publish", published, *given, flavour.image],
        folder=str(folder),
        log=str(folder / "server.log"),
        last=["docker", "rm", "--force", "--volumes", name],
    )


def container_port(name: str) -> int | None:
    """Returns the port of this machine that leads to the server; None before the container runs."""
    done = subprocess.run(["docker", "port", name, "9200/tcp"], capture_output=True, text=True, check=False)
    port = done.stdout.split("\n")[0].rpartition(":")[2].strip()
    return int(port) if done.returncode == 0 and port else None


def _elasticsearch(options: str, password: str | None) -> dict[str, str]:
    common = {"ES_JAVA_OPTS": options, "xpack.security.enabled": str(password is not None).lower()}
    if password is None:
        return common
    return common | {"ELASTIC_PASSWORD": password, "xpack.security.http.ssl.enabled": "false"}


def _opensearch(options: str, password: str | None) -> dict[str, str]:
    if password is None:
        off = {"DISABLE_SECURITY_PLUGIN": "true", "DISABLE_INSTALL_DEMO_CONFIG": "true"}
        return {"OPENSEARCH_JAVA_OPTS": options, **off}
    return {
        "OPENSEARCH_JAVA_OPTS": options,
        "OPENSEARCH_INITIAL_ADMIN_PASSWORD": password,
        "plugins.security.ssl.http.enabled": "false",
    }
