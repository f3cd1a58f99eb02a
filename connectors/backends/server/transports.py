"""What both transports need from the configuration."""

from __future__ import annotations

import base64
import os
from io import BytesIO
from typing import Any, Final, NoReturn

from connectors.config import ServerConfig
from connectors.errors import ConfigurationError, RetryableError, SuspendSync

__all__ = ["CONNECTIONS", "authorization", "chunked", "raise_tls", "raise_unreachable", "tls_options"]

#: Connections to one node: many, for searches, heartbeats and checkpoints must not wait behind bulk requests.
CONNECTIONS: Final = 64
_CHUNKED_FROM: Final = 256 * 1024


def authorization(config: ServerConfig) -> dict[str, str]:
    """Returns the header that says who we are; none where nothing is configured."""
    if config.api_key is not None:
        key = config.api_key.get_secret_value()
        encoded = base64.b64encode(key.encode()).decode() if ":" in key else key
        return {"authorization": f"ApiKey {encoded}"}
    if config.username is not None and config.password is not None:
        pair = f"{config.username}:{config.password.get_secret_value()}"
        return {"authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    if config.bearer_token is not None:
        return {"authorization": f"Bearer {config.bearer_token.get_secret_value()}"}
    return {}


def tls_options(config: ServerConfig) -> dict[str, Any]:
    """Returns the TLS settings under the names that both client libraries have for them; none without https.

    Raises:
        ConfigurationError: a file that they name is not there.
    """
    if not any(url.startswith("https:") for url in config.urls):
        return {}
    files = {"ca_certs": config.ca_certs, "client_cert": config.client_cert, "client_key": config.client_key}
    for name, path in files.items():
        if path is not None and not path.exists():
            raise ConfigurationError(f"there is no file {path}; create it, or write another path", field=name)
    options: dict[str, Any] = {
        "verify_certs": config.verify_certs,
        "ssl_show_warn": False,  # the operator has decided it, and nobody reads a warning at each start
        **{name: str(path) for name, path in files.items() if path is not None},
    }
    if config.ssl_assert_fingerprint is not None:
        options["ssl_assert_fingerprint"] = config.ssl_assert_fingerprint
    return options


def chunked(body: bytes | None) -> bytes | BytesIO | None:
    """Returns a large body as a file, which is sent piece by piece while other tasks go on; nothing is copied."""
    return body if body is None or len(body) < _CHUNKED_FROM else BytesIO(body)


def raise_unreachable(url: str, error: BaseException, *, seconds: float | None = None) -> NoReturn:
    """Raises RetryableError for a connection that failed, or for an answer that did not come within `seconds`."""
    if seconds is not None:
        raise RetryableError(f"{url} did not answer within {seconds:g} s") from error
    if (why := _of_the_system(error)) is not None:
        raise RetryableError(
            f"{url} cannot be reached: {why}. Check that the server runs, and that the address is right"
        ) from error
    raise RetryableError(f"{url} cannot be reached, or did not answer to the end: {_told(error)}") from error


def raise_tls(url: str, error: BaseException) -> NoReturn:
    """Raises SuspendSync for a certificate that is not accepted, by us or by the server."""
    raise SuspendSync(
        f"{url}: TLS failed: {_told(error)}. Check ca_certs (who signed the server's certificate), "
        "ssl_assert_fingerprint, client_cert and client_key, and that the certificate names this host"
    ) from error


def _of_the_system(error: BaseException) -> str | None:
    """Returns why there is no connection at all, in the words of the system: those of the libraries name classes."""
    for cause in (error, *getattr(error, "errors", ())):
        system = getattr(cause, "os_error", None)  # aiohttp's: nothing was sent yet
        if isinstance(system, OSError) and system.errno:
            return os.strerror(system.errno) if system.errno > 0 else system.strerror
    return None


def _told(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
