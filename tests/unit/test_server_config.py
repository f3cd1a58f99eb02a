"""The blocks `elasticsearch` and `opensearch`, and the backend that follows from them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from connectors.app import open_app
from connectors.backends.embedded.destination import EmbeddedDestination
from connectors.backends.server.destination import ServerDestination
from connectors.backends.server.transports import authorization
from connectors.config import Config, ConfigError, ElasticsearchConfig, load_config
from connectors.errors import ConfigurationError, RetryableError


def load(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "config.yml"
    path.write_text(text)
    return load_config(path, environ={"SEARCH_KEY": "s3cr3t-key"})


def told(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    return str(caught.value)


def test_an_address_alone_is_enough(tmp_path: Path) -> None:
    config = load(tmp_path, "elasticsearch: https://example.org/search/\n")
    assert config.elasticsearch is not None
    assert config.elasticsearch.urls == ["https://example.org/search"]
    assert config.elasticsearch.jobs_index == ".elastic-connectors-sync-jobs"
    assert config.index_place == "Elasticsearch, https://example.org/search"
    config = load(tmp_path, "opensearch: http://localhost:9201\n")
    assert (config.elasticsearch, config.index_place) == (None, "OpenSearch, http://localhost:9201")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("elasticsearch: http://a:1\nopensearch: http://b:2", "keep one of the two blocks"),
        ("elasticsearch: localhost:9200", "no address of a server"),
        ("elasticsearch.url: ftp://localhost", "no address of a server"),
        ("elasticsearch.url: http://user:hunter2@localhost", "write them as `username` and `password`"),
        ("elasticsearch.username: me", "goes with username"),
        ("elasticsearch: {username: me, password: x, api_key: y}\n", "only one of"),
        ("elasticsearch: {bearer_token: x, api_key: y}", "only one of"),
        ("elasticsearch.client_key: k.pem", "client_cert"),
        ("elasticsearch: {url: 'https://x', ssl_assert_fingerprint: abc}", "SHA-256"),
        (f"elasticsearch: {{url: 'http://x', ssl_assert_fingerprint: {'ab' * 32}}}", "https://"),
        ("elasticsearch.api_kee: x", "api_key"),
        ("elasticsearch: {state_index: mine, jobs_index: mine}", "must be three indices"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    message = told(tmp_path, text)
    assert words in message
    assert "config.yml:" in message


@pytest.mark.parametrize(
    ("server", "index"),
    [
        ("elasticsearch: http://a:1", ".elastic-connectors"),
        ("elasticsearch: {jobs_index: jobs}", "jobs"),
        ("opensearch: {}", ".connectors-state"),
    ],
)
def test_no_documents_go_where_the_records_are(tmp_path: Path, server: str, index: str) -> None:
    text = (
        f"{server}\nconnectors:\n- {{id: a, service_type: s, index: a}}\n- id: b\n  service_type: s\n  index: {index}\n"
    )
    assert f'config.yml:6:3: connectors[1].index: "{index}" holds the records' in told(tmp_path, text)


def test_secrets_are_hidden(tmp_path: Path) -> None:
    config = load(tmp_path, "elasticsearch:\n  url: https://localhost\n  api_key: ${SEARCH_KEY}\n")
    assert "s3cr3t-key" in config.secrets
    assert "s3cr3t-key" not in repr(config)


@pytest.mark.parametrize(
    ("given", "header"),
    [
        ({}, {}),
        ({"api_key": "id:key"}, {"authorization": "ApiKey aWQ6a2V5"}),
        ({"api_key": "aWQ6a2V5"}, {"authorization": "ApiKey aWQ6a2V5"}),
        ({"username": "ä", "password": "p:w"}, {"authorization": "Basic w6Q6cDp3"}),
        ({"bearer_token": "t"}, {"authorization": "Bearer t"}),
    ],
)
def test_who_we_are(given: dict[str, Any], header: dict[str, str]) -> None:
    assert authorization(ElasticsearchConfig.model_validate(given)) == header


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("elasticsearch: http://127.0.0.1:1", ServerDestination),
        ("opensearch: http://127.0.0.1:1", ServerDestination),
        ("{}", EmbeddedDestination),
    ],
)
async def test_the_block_chooses_the_backend(tmp_path: Path, text: str, kind: type) -> None:
    async with open_app(load(tmp_path, text)) as app:
        assert isinstance(app.destination, kind)
        if kind is ServerDestination:
            with pytest.raises(
                RetryableError, match=r"^http://127\.0\.0\.1:1 cannot be reached: Connection refused\. "
            ):
                await app.destination.indices()


@pytest.mark.parametrize("block", ["elasticsearch", "opensearch"])
async def test_a_file_of_certificates_that_is_not_there(tmp_path: Path, block: str) -> None:
    config = load(tmp_path, f"{block}: {{url: 'https://127.0.0.1:1', ca_certs: nope.pem}}")
    with pytest.raises(ConfigurationError, match=r"there is no file .*nope\.pem; create it"):
        async with open_app(config):
            pass


async def test_a_client_library_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opensearchpy", None)
    for name in [name for name in sys.modules if name.startswith("connectors.backends.opensearch")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ConfigurationError, match=r"pip install 'connectors\[opensearch\]'"):
        async with open_app(load(tmp_path, "opensearch: http://127.0.0.1:1")):
            pass
