"""Connects, with libpq's own states, so that a connection that is given up half-way is closed at once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

__all__ = ["dial", "wait_for"]

_SECONDS: Final = 15.0


async def dial(parameters: Mapping[str, str]) -> pq.abc.PGconn:
    """Returns a connection; raises psycopg.OperationalError.

    Args:
        parameters: of libpq: host, port, user, …; names of hosts are resolved here, without blocking.
    """
    try:
        async with asyncio.timeout(_SECONDS):
            resolved = await _resolved(parameters)
            pgconn = pq.PGconn.connect_start(make_conninfo("", **resolved).encode())
            try:
                await _connected(pgconn)
            except BaseException:
                pgconn.finish()
                raise
    except TimeoutError:
        raise psycopg.OperationalError(f"no connection to {parameters.get('host')} within {_SECONDS:g} s") from None
    pgconn.nonblocking = 1
    return pgconn


async def _connected(pgconn: pq.abc.PGconn) -> None:
    state = pq.PollingStatus.WRITING if pgconn.status != pq.ConnStatus.BAD else pq.PollingStatus.FAILED
    while state != pq.PollingStatus.OK:
        if state == pq.PollingStatus.FAILED:
            raise psycopg.OperationalError(pgconn.get_error_message())
        await wait_for(pgconn.socket, writing=state == pq.PollingStatus.WRITING)
        state = pq.PollingStatus(pgconn.connect_poll())


async def wait_for(descriptor: int, *, writing: bool = False) -> None:
    """Returns when the socket has something to read, or room to write."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    add, remove = (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)
    add(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        remove(descriptor)


async def _resolved(parameters: Mapping[str, str]) -> dict[str, str]:
    """Returns the parameters with the addresses of the host, all of which libpq tries."""
    host = parameters.get("host", "")
    if not host or host.startswith(("/", "@")) or _is_address(host):
        return dict(parameters)
    port = parameters.get("port", "5432")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise psycopg.OperationalError(f"the host {host} is not known: {error.strerror}") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    many = {key: ",".join([value] * len(addresses)) for key, value in (("host", host), ("port", port))}
    return {**parameters, **many, "hostaddr": ",".join(addresses)}


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
