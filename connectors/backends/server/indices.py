"""Finds out what an index is, creates it, and gives it what our writes need: the stamp's mapping and our alias."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from connectors.backends.ports import IndexHandle, IndexInfo, IndexSpec
from connectors.backends.server.bulk import STAMP
from connectors.backends.server.client import Client, Response
from connectors.backends.server.faults import error_of, reason_of, told
from connectors.backends.server.mappings import (
    GC_DELETES,
    STAMP_MAPPING,
    fingerprint,
    index_body,
    nested_pipelines,
    template_body,
)
from connectors.backends.server.names import path_of, write_alias
from connectors.errors import ConfigurationError, IndexChangedError, RetryableError

__all__ = ["Indices"]

_TRIES: Final = 5
_FLAGS: Final = ("name", "extract_binary_content", "reduce_whitespace", "run_ml_inference")


@dataclass(frozen=True, slots=True)
class _Index:
    """One index as the server describes it: `name` is the configured one, which may be an alias of `concrete`."""

    name: str
    concrete: str
    aliases: Mapping[str, Any]
    mappings: Mapping[str, Any]
    settings: Mapping[str, Any]

    @property
    def uuid(self) -> str:
        return str(self.settings["uuid"])

    @property
    def alias(self) -> str:
        return write_alias(self.name, self.uuid)

    def pipelines(self, asked: str | None = None) -> list[str]:
        """Names the ingest pipelines that documents pass: what is asked for takes the place of the index's default."""
        names = (asked or self.settings.get("default_pipeline"), self.settings.get("final_pipeline"))
        return [str(name) for name in names if name and name != "_none"]


class Indices:
    """The indices of one server.

    Args:
        reserved: names of those that hold records, where no documents may go.
    """

    def __init__(self, client: Client, reserved: Collection[str] = ()) -> None:
        self._client = client
        self._reserved = reserved
        self._concrete: dict[str, str] = {}
        self._piped: set[str] = set()

    async def prepare(self, spec: IndexSpec) -> IndexInfo:
        """Creates the index when it is missing, adds what our writes need, and says what it is.

        Raises:
            ConfigurationError: it holds records, is a data stream, an alias without one index to write to, has a field
                of the stamp's name that is something else, or the language or the pipeline does not exist.
        """
        for _ in range(_TRIES):
            index = await self._describe(spec.name)
            if await self._holds_records(spec.name if index is None else index.concrete):
                raise ConfigurationError(
                    f'"{spec.name}" holds the records of connectors and jobs; name another index', field="index"
                )
            if index is None:
                await self._create(spec)
                continue
            # An index that is deleted and created again while we are at it may have got the alias of the old one.
            await self._equip(index)
            again = await self._describe(spec.name)
            if again is not None and again.uuid == index.uuid and index.alias in again.aliases:
                self._concrete[spec.name] = again.concrete
                return await self._info(again, spec.pipeline)
            await self._drop_alias(index)
        raise RetryableError(f'The index "{spec.name}" is deleted and created all the time; wait for that to end')

    async def info(self, name: str, pipeline: Mapping[str, Any] | None) -> IndexInfo | None:
        """Says what the index is, None when there is none.

        Raises:
            ConfigurationError: nothing can be written there, or there is no such pipeline, whether there is an index
                or not.
        """
        index = await self._describe(name)
        if index is not None:
            return await self._info(index, pipeline)
        if pipeline and pipeline.get("name"):
            await self._follow([str(pipeline["name"])], {})
        return None

    def written(self, name: str) -> str:
        """Returns the index that a prepared name writes to; an alias may stand for more, which are read only."""
        return self._concrete.get(name, name)

    def piped(self, handle: IndexHandle) -> bool:
        """Whether documents of this handle pass an ingest pipeline: one that it names, or one of the index's own."""
        return bool(handle.pipeline and handle.pipeline.get("name")) or handle.index in self._piped

    async def restore_alias(self, handle: IndexHandle) -> None:
        """Gives the handle's index our alias again; raises IndexChangedError when that index is no more."""
        index = await self._describe(handle.index)
        if index is not None and index.uuid == handle.uuid:
            await self._add_alias(index)
            again = await self._describe(handle.index)
            if again is not None and again.uuid == handle.uuid:
                return
            await self._drop_alias(index)  # another index of that name got it, meanwhile
        raise IndexChangedError(
            f'The index "{handle.index}" was deleted, or deleted and created again, while the sync ran. The next sync '
            "writes every document anew"
        )

    # Looking

    async def _holds_records(self, name: str) -> bool:
        serverless = (await self._client.server()).serverless  # where their names have no dot in front
        return name in {each.lstrip(".") if serverless else each for each in self._reserved}

    async def _describe(self, name: str) -> _Index | None:
        response = await self._client.request("GET", path_of(name))
        if response.status == 404:
            return None
        found: dict[str, Any] = self._understood(response, f'to describe "{name}"').json()
        if stream := next((entry["data_stream"] for entry in found.values() if "data_stream" in entry), None):
            raise ConfigurationError(
                f'"{name}" belongs to the data stream "{stream}", whose documents cannot be replaced or deleted; name '
                "an index",
                field="index",
            )
        concrete = name if name in found else _write_index(name, found)
        entry = found[concrete]
        index = _Index(name, concrete, entry["aliases"], entry["mappings"], entry["settings"]["index"])
        (self._piped.add if index.pipelines() else self._piped.discard)(name)
        return index

    async def _info(self, index: _Index, pipeline: Mapping[str, Any] | None) -> IndexInfo:
        passed: dict[str, Any] = {}
        asked = str(pipeline["name"]) if pipeline and pipeline.get("name") else None
        if pipeline and asked:
            passed["asked"] = {flag: pipeline.get(flag) for flag in _FLAGS}
        await self._follow(index.pipelines(asked), passed)
        return IndexInfo(index.name, index.uuid, fingerprint(index.mappings, index.settings, passed))

    async def _follow(self, names: list[str], passed: dict[str, Any]) -> None:
        """Adds the definitions of these pipelines and of all that they hand documents to."""
        required = set(names)
        while names:
            name = names.pop()
            key = f"pipeline {name}"
            if key in passed:
                continue
            response = await self._client.request("GET", f"/_ingest/pipeline{path_of(name)}")
            if response.status == 404:
                if name in required:
                    raise ConfigurationError(
                        f'{self._client.product.name} has no ingest pipeline "{name}"; create it, or take it out of '
                        "`pipeline`",
                        field="pipeline.name",
                    )
                continue
            passed[key] = self._understood(response, f'to show the pipeline "{name}"').json().get(name)
            names.extend(nested_pipelines(passed[key]))

    # Making

    async def _create(self, spec: IndexSpec) -> None:
        serverless = (await self._client.server()).serverless
        templated = await self._has_template(spec.name)
        body = template_body(serverless=serverless) if templated else index_body(spec, serverless=serverless)
        response = await self._client.request("PUT", path_of(spec.name), body=body)
        error = error_of(response.body) or {}
        if response.ok or (isinstance(error, Mapping) and error.get("type") == "resource_already_exists_exception"):
            return
        reason = told(reason_of(error))
        hint = "; name an index, not a data stream" if "data streams only" in reason else ""
        raise ConfigurationError(f'The index "{spec.name}" cannot be created: {reason}{hint}', field="index")

    async def _has_template(self, name: str) -> bool:
        """Whether an index template of the operator's maps this index's fields; who may not ask has none."""
        response = await self._client.request(
            "POST", f"/_index_template/_simulate_index{path_of(name)}", answered=(401, 403)
        )
        if not response.ok:
            return False
        mappings = (response.json().get("template") or {}).get("mappings") or {}
        return bool(mappings.get("properties") or mappings.get("dynamic_templates"))

    async def _equip(self, index: _Index) -> None:
        mapped = (index.mappings.get("properties") or {}).get(STAMP)
        if not _has_stamp(mapped):
            response = await self._client.request(
                "PUT", f"{path_of(index.concrete)}/_mapping", body={"properties": {STAMP: STAMP_MAPPING}}
            )
            if not response.ok and response.status != 404:  # deleted meanwhile: the caller looks again
                raise ConfigurationError(
                    f'The index "{index.name}" cannot take our stamp ({STAMP}): {reason_of(error_of(response.body))}',
                    field="index",
                )
        if "gc_deletes" not in index.settings and not (await self._client.server()).serverless:
            response = await self._client.request(
                "PUT", f"{path_of(index.concrete)}/_settings", body={"index": {"gc_deletes": GC_DELETES}}
            )
            if response.status != 404:
                self._understood(response, f'to set index.gc_deletes of "{index.name}"')
        if index.alias not in index.aliases:
            await self._add_alias(index)

    async def _add_alias(self, index: _Index) -> None:
        action = {"add": {"index": index.concrete, "alias": index.alias, "is_hidden": True}}
        response = await self._client.request("POST", "/_aliases", body={"actions": [action]})
        if response.status != 404:
            self._understood(response, f'the alias "{index.alias}"')

    async def _drop_alias(self, index: _Index) -> None:
        action = {"remove": {"index": index.concrete, "alias": index.alias}}
        await self._client.request("POST", "/_aliases", body={"actions": [action]})

    def _understood(self, response: Response, what: str) -> Response:
        if not response.ok:
            raise self._client.refused(response, what)
        return response


def _write_index(name: str, found: Mapping[str, Any]) -> str:
    """Returns the index that an alias writes to."""
    written = [index for index, entry in found.items() if entry["aliases"].get(name, {}).get("is_write_index")]
    if len(written) == 1:
        return written[0]
    if len(found) == 1 and not written:
        (only,) = found
        if found[only]["aliases"].get(name, {}).get("is_write_index") is not False:
            return only
    raise ConfigurationError(
        f'The alias "{name}" stands for {", ".join(sorted(found))} and says of none that it is written to; set '
        "is_write_index on one of them, or name an index",
        field="index",
    )


def _has_stamp(mapped: Any) -> bool:
    fields = mapped.get("properties") or {} if isinstance(mapped, Mapping) else {}
    return all(fields.get(name, {}).get("type") == "keyword" for name in STAMP_MAPPING["properties"])
