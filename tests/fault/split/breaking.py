"""Ways to break the stores and the links that real machines break in."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from typing import Any, Literal

import httpx

from cli.up.docker import forget_dead
from tests.broker import VHOST, Broker
from tests.e2e.hosts import Host
from tests.e2e.people import run
from tests.e2e.split import SplitPlatform
from tests.e2e.waiting import until

Way = Literal["INPUT", "OUTPUT"]


@contextlib.asynccontextmanager
async def cut(*hosts: Host) -> AsyncIterator[None]:
    """The cable is pulled meanwhile."""
    for host in hosts:
        await host.cut()
    try:
        yield
    finally:
        for host in hosts:
            await host.mend()


@contextlib.asynccontextmanager
async def one_way(host: Host, chain: Way) -> AsyncIterator[None]:
    """INPUT: the host hears nothing and is heard. OUTPUT: the other way round. Its containers
    are not touched: those are forwarded."""
    side = "-i" if chain == "INPUT" else "-o"
    rule = (chain, side, "eth0", "-j", "DROP")
    await run(*host.inside, "iptables", "-w", "-I", *rule)
    try:
        yield
    finally:
        await run(*host.inside, "iptables", "-w", "-D", *rule)


@contextlib.asynccontextmanager
async def broker_away(broker: Broker, *, polite: bool = False) -> AsyncIterator[None]:
    await (broker.stop() if polite else broker.kill())
    try:
        yield
    finally:
        await broker.start()


@contextlib.asynccontextmanager
async def publishers_blocked(broker: Broker) -> AsyncIterator[None]:
    """The broker says that it has no memory left; it still delivers."""
    await broker.ctl("set_vm_memory_high_watermark", "0")
    try:
        yield
    finally:
        await broker.ctl("set_vm_memory_high_watermark", "0.4")


async def end_engine(host: Host) -> None:
    """kill -9 of dockerd, and its containerd with it; `start_engine` brings it back."""
    await host.kill_engine()
    (host.folder / "docker.pid").unlink(missing_ok=True)
    pid_file = host.folder / "exec" / "containerd" / "containerd.pid"

    async def is_gone() -> bool:
        # Docker does not start while it thinks that this one runs.
        forget_dead(pid_file, "containerd")
        return not pid_file.exists()

    await until(is_gone, timeout_s=30, what="containerd has ended with dockerd")


async def crash_postgres(platform: SplitPlatform) -> None:
    """`pg_ctl stop -m immediate`, and up again. Returns when it answers."""
    postgres = platform.postgres
    pid_file = postgres.socket_folder.parent / "data" / "postmaster.pid"

    def master() -> int:
        with contextlib.suppress(OSError, ValueError):
            return int(pid_file.read_text().split("\n", 1)[0])
        return 0

    before = master()
    keeper = asyncio.create_task(postgres.keep_up())
    try:
        os.kill(before, signal.SIGQUIT)

        async def is_back() -> bool:
            if master() in (0, before):
                return False
            with contextlib.suppress(Exception):
                await platform.ask("auth", "SELECT 1")
                return True
            return False

        await until(is_back, timeout_s=60, what="PostgreSQL is back")
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)


class BrokerHands:
    """What an operator does over the broker's management API."""

    def __init__(self, broker: Broker) -> None:
        self._http = httpx.AsyncClient(base_url=broker.admin_url, trust_env=False, timeout=20)

    async def bindings(self, queue: str, exchange: str = "chusuan.facts") -> list[dict[str, Any]]:
        answer = await self._http.get(f"/api/queues/{VHOST}/{queue}/bindings")
        return [one for one in answer.raise_for_status().json() if one["source"] == exchange]

    async def unbind(self, queue: str, exchange: str = "chusuan.facts") -> int:
        """How many bindings are gone."""
        found = await self.bindings(queue, exchange)
        for one in found:
            path = f"/api/bindings/{VHOST}/e/{exchange}/q/{queue}/{one['properties_key']}"
            (await self._http.delete(path)).raise_for_status()
        return len(found)

    async def publish(self, key: str, body: str, exchange: str = "chusuan.facts") -> None:
        """Raises AssertionError where no queue takes it."""
        message = {"properties": {}, "routing_key": key, "payload": body}
        message |= {"payload_encoding": "string"}
        path = f"/api/exchanges/{VHOST}/{exchange}/publish"
        answer = await self._http.post(path, json=message)
        assert answer.raise_for_status().json()["routed"], key

    async def close(self) -> None:
        await self._http.aclose()
