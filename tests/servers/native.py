"""Starts a server as a process of this machine, with Java and the software of `fetch.py`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from tests.servers.fetch import fetched, security_plugin, software
from tests.servers.flavours import Flavour
from tests.servers.java import MissingError, find_java, maven_obstacle
from tests.servers.process import Keep
from tests.servers.tls import node_certificate

__all__ = ["native_obstacle", "native_port", "native_server"]

_NOBODY: Final = 65534
_SECURITY_PLUGIN: Final = "org.opensearch.security.OpenSearchSecurityPlugin"
#: The plugin makes the hash of a password that it finds in the environment.
_PASSWORD: Final = "CONNECTORS_TEST_SERVER_PASSWORD"
#: A user namespace in which root is somebody else, while files stay its own: both servers refuse to run as root.
_NAMESPACE: Final = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
_LOGGING: Final = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%c{1.}] %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
"""
_SETTINGS: Final = {
    "cluster.name": "connectors-test",
    "network.host": "127.0.0.1",
    "discovery.type": "single-node",
    "cluster.routing.allocation.disk.threshold_enabled": "false",  # a nearly full disk must not block a test's index
    "node.portsfile": "true",
}


def native_obstacle(flavour: Flavour) -> str | None:
    """Says why the server cannot run here natively; None when it can."""
    try:
        find_java(flavour)
    except MissingError as missing:
        return str(missing)
    if shutil.which("bash") is None:
        return "bash, which starts the server, is not here."
    return None if fetched(flavour) else maven_obstacle()


def native_server(
    flavour: Flavour, folder: Path, *, password: str | None, settings: Mapping[str, str], heap: str, port: int
) -> Keep:
    """Prepares a server in an empty folder; port 0 is a free one. Raises MissingError."""
    java, home = find_java(flavour), _readable(software(flavour), folder)
    options = f"-Xms{heap} -Xmx{heap} -XX:TieredStopAtLevel=1 -XX:-UsePerfData"
    given = {**_SETTINGS, "http.port": str(port), "transport.port": "0", **settings}
    if flavour.product == "elasticsearch":
        command, environment = _elasticsearch(
            flavour, folder, home, java=java, settings=given, options=options, password=password
        )
    else:
        command, environment = _opensearch(
            flavour, folder, home, java=java, settings=given, options=options, password=password
        )
    prefix, user = _identity(folder)
    return Keep(
        command=[*prefix, *command],
        folder=str(folder),
        log=str(folder / "server.log"),
        environment=_clean_environment() | environment,
        user=user,
    )


def native_port(folder: Path) -> int | None:
    """Returns the port that the server listens on; None before it does."""
    for logs in (folder / "logs", folder / "node" / "node_1" / "logs"):
        if (ports := logs / "http.ports").exists():
            return int(ports.read_text().split()[0].rpartition(":")[2])
    return None


def _elasticsearch(
    flavour: Flavour,
    folder: Path,
    home: Path,
    *,
    java: Path,
    settings: Mapping[str, str],
    options: str,
    password: str | None,
) -> tuple[list[str], dict[str, str]]:
    config = folder / "config"
    for part in ("config", "data", "logs", "tmp"):
        (folder / part).mkdir()
    (config / "elasticsearch.yml").write_text(
        "".join(
            f"{key}: {json.dumps(value)}\n"
            for key, value in {
                "path.data": str(folder / "data"),
                "path.logs": str(folder / "logs"),
                "xpack.security.enabled": str(password is not None).lower(),
                "xpack.security.autoconfiguration.enabled": "false",
                **settings,
            }.items()
        )
    )
    (config / "log4j2.properties").write_text(_LOGGING)
    (config / "jvm.options").write_text("\n".join([*_jvm_options(home), ""]))
    environment = {
        "ES_JAVA_HOME": str(java),
        "ES_JAVA_OPTS": options,
        "ES_PATH_CONF": str(config),
        "ES_TMPDIR": str(folder / "tmp"),
    }
    if password is not None:
        _set_password(home, environment, password)
    if flavour.name == "es8":
        environment |= {"CLI_NAME": "server", "CLI_LIBS": "lib/tools/server-cli"}
        return ["bash", str(home / "bin" / "elasticsearch-cli")], environment
    # Its own script is not in the archive: the same in two lines.
    script = (
        'set -a; . "$(dirname "$0")/elasticsearch-env"; exec "$JAVA" -Xms4m -Xmx64m -XX:+UseSerialGC '
        '-cp "$ES_HOME/lib/tools/server-launcher/*" org.elasticsearch.server.launcher.ServerLauncher'
    )
    return ["bash", "-c", script, str(home / "bin" / "elasticsearch")], environment


def _jvm_options(home: Path) -> Iterator[str]:
    """Yields the options that came with the server, but for the heap and those that write files beside it."""
    unwanted = re.compile(r"#|[0-9-]*:?(-Xm[sx]|-Xlog|-XX:ErrorFile|-XX:\+HeapDump)")
    for line in (home / "config" / "jvm.options").read_text().splitlines():
        if not unwanted.match(line):
            yield line


def _set_password(home: Path, environment: Mapping[str, str], password: str) -> None:
    """Puts the first password of the user `elastic` into the server's keystore, which is created."""
    subprocess.run(
        ["bash", str(home / "bin" / "elasticsearch-cli"), "add", "--stdin", "--force", "bootstrap.password"],
        env={**_clean_environment(), **environment, "CLI_NAME": "keystore", "CLI_LIBS": "lib/tools/keystore-cli"},
        input=password,
        capture_output=True,
        text=True,
        check=True,
    )


def _opensearch(
    flavour: Flavour,
    folder: Path,
    home: Path,
    *,
    java: Path,
    settings: Mapping[str, str],
    options: str,
    password: str | None,
) -> tuple[list[str], dict[str, str]]:
    config = folder / "node" / "node_1" / "config"
    config.mkdir(parents=True)
    libraries, plugins, environment = [home / "lib"], "", {}
    if password is not None:
        libraries.append(_readable(security_plugin(flavour), folder / "plugin"))
        settings = {**_secured(config, libraries[-1]), **settings}
        plugins, environment = _SECURITY_PLUGIN, {_PASSWORD: password}
    (folder / "tmp").mkdir()
    (config / "log4j2.properties").write_text(_LOGGING)
    written = {"node.roles": "cluster_manager,data,ingest", **settings}
    (folder / "settings").write_text("".join(f"{key}: {value}\n" for key, value in written.items()))
    shutil.copy(Path(__file__).with_name("Node.java"), folder)  # where whoever runs the server can read it
    command = [
        str(java / "bin" / "java"),
        *options.split(),
        f"-Djava.io.tmpdir={folder / 'tmp'}",
        "-cp",
        os.pathsep.join(str(each / "*") for each in libraries),
        str(folder / "Node.java"),
        str(folder / "node"),
        str(folder / "settings"),
        plugins,
    ]
    return command, environment


def _secured(config: Path, plugin: Path) -> dict[str, str]:
    """Prepares the security plugin's configuration, and returns the settings of a node with security on.

    Nodes speak TLS to each other, which the plugin insists on; clients speak HTTP.
    """
    node_certificate(config)
    shutil.copytree(plugin / "config", config / "opensearch-security")
    (config / "opensearch-security" / "internal_users.yml").write_text(
        "_meta: {type: internalusers, config_version: 2}\n"
        f'admin: {{hash: "${{envbc.{_PASSWORD}}}", backend_roles: [admin]}}\n'
    )
    tls = "plugins.security.ssl.transport"
    return {
        f"{tls}.pemcert_filepath": "node.pem",
        f"{tls}.pemkey_filepath": "node.key",
        f"{tls}.pemtrustedcas_filepath": "ca.pem",
        f"{tls}.enforce_hostname_verification": "false",
        "plugins.security.ssl.http.enabled": "false",
        "plugins.security.allow_default_init_securityindex": "true",
        "plugins.security.restapi.roles_enabled.0": "all_access",
        "plugins.security.audit.type": "noop",
    }


def _clean_environment() -> dict[str, str]:
    """Returns ours without what would change the Java that the server runs on."""
    return {key: value for key, value in os.environ.items() if key not in {"JAVA_HOME", "JAVA_OPTS", "CLASSPATH"}}


def _readable(home: Path, folder: Path) -> Path:
    """Returns the software's folder, or a copy, where whoever will run the server may read it."""
    if os.geteuid() != 0 or _namespaces() or all(part.stat().st_mode & 0o001 for part in home.parents):
        return home
    return Path(shutil.copytree(home, folder / "software"))


def _identity(folder: Path) -> tuple[tuple[str, ...], int | None]:
    """Says how to run the server as somebody other than root: with what in front, or as which user."""
    if os.geteuid() != 0:
        return (), None
    if _namespaces():
        return _NAMESPACE, None
    for path in (folder, *folder.rglob("*")):
        os.chown(path, _NOBODY, _NOBODY)
    return (), _NOBODY


@cache
def _namespaces() -> bool:
    """Says whether this machine lets us make a user namespace; many containers do not."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*_NAMESPACE, "true"], capture_output=True, check=False).returncode == 0
