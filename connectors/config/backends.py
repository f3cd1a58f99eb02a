"""The blocks `elasticsearch` and `opensearch`: where the server is and who we are."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator, model_validator

from connectors.config.fields import ConfigPath, IndexName, PositiveDuration
from connectors.config.section import Section
from connectors.utils import quoted

__all__ = ["ElasticsearchConfig", "OpenSearchConfig", "ServerConfig", "short_form"]

_FINGERPRINT_DIGITS: Final = 64


def _check_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or port == 0:
        raise ValueError(
            f"{quoted(value)} is no address of a server; write one such as https://search.example.org:9200"
        )
    if parts.username is not None or parts.password is not None:
        raise ValueError("holds a user name or a password; write them as `username` and `password`")
    return value.rstrip("/")


Url: TypeAlias = Annotated[
    str, AfterValidator(_check_url), Field(json_schema_extra={"pattern": r"^https?://[^\s/?#@]+(/[^\s?#]*)?$"})
]
"""An address; what stands behind the host is put in front of each path (a proxy that serves under /search, say)."""


def short_form(value: Any) -> Any:
    """Reads an address alone as a block with this address."""
    return {"url": value} if isinstance(value, str) else value


class ServerConfig(Section):
    """What both kinds of server have in common."""

    url: Url = Field(
        "http://localhost:9200", description="Address of the server, with the path that a proxy puts in front."
    )
    hosts: list[Url] = Field(default_factory=list, description="Addresses of further nodes of the same cluster.")
    api_key: SecretStr | None = Field(None, description="API key: the encoded one, or id:key.")
    username: str | None = Field(None, min_length=1, description="User, together with password.")
    password: SecretStr | None = Field(None, description="Password of the user.", validate_default=True)
    bearer_token: SecretStr | None = Field(None, description="Token that is sent as it is.", validate_default=True)
    ca_certs: ConfigPath | None = Field(
        None, description="File or folder with the certificates of the authorities that are trusted."
    )
    client_cert: ConfigPath | None = Field(None, description="Our certificate, where the server asks for one.")
    client_key: ConfigPath | None = Field(
        None, description="The key of client_cert, where it is not in the same file.", validate_default=True
    )
    ssl_assert_fingerprint: str | None = Field(
        None, description="SHA-256 of the server's certificate, in hex; then no other check of it is made."
    )
    verify_certs: bool = Field(True, description="Whether the server's certificate is checked. Leave it on.")
    request_timeout: PositiveDuration = Field(60.0, description="How long one request may take.")
    compress: bool = Field(False, description="Whether bodies are sent compressed: for a slow network.")
    state_index: IndexName = Field(
        ".connectors-state", description="Index for what the other two do not hold: leases, checkpoints, dead letters."
    )

    @field_validator("password")
    @classmethod
    def _goes_with_username(cls, password: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if (password is None) != (info.data.get("username") is None):
            raise ValueError("goes with username: write both, or neither")
        return password

    @field_validator("bearer_token")
    @classmethod
    def _is_the_only_one(cls, token: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        given = [name for name in ("api_key", "username") if info.data.get(name) is not None]
        if len(given) + (token is not None) > 1:
            raise ValueError("only one of api_key, username with password, and bearer_token can be given")
        return token

    @field_validator("client_key")
    @classmethod
    def _goes_with_certificate(cls, key: Any, info: ValidationInfo) -> Any:
        if key is not None and info.data.get("client_cert") is None:
            raise ValueError("is the key of client_cert; write that too")
        return key

    @field_validator("ssl_assert_fingerprint")
    @classmethod
    def _is_sha256(cls, value: str | None) -> str | None:
        if value is None:
            return None
        digits = value.replace(":", "").lower()
        if not re.fullmatch(f"[0-9a-f]{{{_FINGERPRINT_DIGITS}}}", digits):
            raise ValueError(f"must be the SHA-256 of a certificate: {_FINGERPRINT_DIGITS} hexadecimal digits")
        return digits

    @model_validator(mode="after")
    def _keeps_records_apart(self) -> Self:
        if len(set(self.record_indices)) < len(self.record_indices):
            raise ValueError(
                "connectors_index, jobs_index and state_index must be three indices; name each differently"
            )
        return self

    @model_validator(mode="after")
    def _pins_over_tls_only(self) -> Self:
        if self.ssl_assert_fingerprint and not self.url.startswith("https:"):
            raise ValueError("ssl_assert_fingerprint needs an https:// address")
        return self

    @property
    def urls(self) -> list[str]:
        """All addresses, without repetition."""
        return list(dict.fromkeys([self.url, *self.hosts]))

    @property
    def record_indices(self) -> tuple[str, ...]:
        """The indices of records, where no documents may go."""
        return (self.state_index,)


class ElasticsearchConfig(ServerConfig):
    """Elasticsearch 8 or 9 as the place of documents and records."""

    connectors_index: IndexName = Field(".elastic-connectors", description="Index of the connectors' records.")
    jobs_index: IndexName = Field(".elastic-connectors-sync-jobs", description="Index of the jobs' records.")

    @property
    def record_indices(self) -> tuple[str, ...]:
        """The indices of records, where no documents may go."""
        return self.connectors_index, self.jobs_index, self.state_index


class OpenSearchConfig(ServerConfig):
    """OpenSearch 2 or 3 as the place of documents and records."""

    connectors_index: IndexName = Field(".connectors", description="Index of the connectors' records.")
    jobs_index: IndexName = Field(".connectors-sync-jobs", description="Index of the jobs' records.")

    @property
    def record_indices(self) -> tuple[str, ...]:
        """The indices of records, where no documents may go."""
        return self.connectors_index, self.jobs_index, self.state_index
