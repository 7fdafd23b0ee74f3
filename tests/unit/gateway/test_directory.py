"""How often the scheduler is asked, and what holds while it is away."""

import asyncio

import httpx
import pytest

from gateway.directory import Directory
from shared.errors import NotFound, Unavailable
from shared.ids import new_id

INSTANCE = new_id()
DOOR = {
    "instance_id": str(INSTANCE),
    "account_id": str(new_id()),
    "host": "10.0.0.5",
    "port": 22001,
    "token": "secret",
    "running": True,
    "apps": [],
}


class Scheduler:
    """Answers with `status`."""

    def __init__(self) -> None:
        self.asked = 0
        self.status = 200
        transport = httpx.MockTransport(self._answer)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://scheduler")

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        await asyncio.sleep(0)
        return httpx.Response(self.status, json=DOOR if self.status == 200 else {"code": "x"})


class Token:
    async def get(self) -> str:
        return "service"


async def test_many_requests_at_once_are_one_question() -> None:
    scheduler = Scheduler()
    directory = Directory(scheduler.http, Token(), fresh_s=60.0)
    await asyncio.gather(*(directory.find(INSTANCE) for _ in range(50)))
    await directory.find(INSTANCE)
    assert scheduler.asked == 1


async def test_a_restart_of_the_scheduler_ends_nobodys_work() -> None:
    scheduler = Scheduler()
    directory = Directory(scheduler.http, Token(), fresh_s=0.0)
    known = await directory.find(INSTANCE)
    scheduler.status = 503
    assert await directory.find(INSTANCE) == known
    with pytest.raises(Unavailable):
        await directory.find(new_id())


async def test_a_no_is_believed_at_once() -> None:
    scheduler = Scheduler()
    directory = Directory(scheduler.http, Token(), fresh_s=0.0)
    await directory.find(INSTANCE)
    scheduler.status = 404
    with pytest.raises(NotFound):
        await directory.find(INSTANCE)


async def test_a_refused_service_token_is_a_fault_of_the_platform() -> None:
    scheduler = Scheduler()
    scheduler.status = 403
    with pytest.raises(Unavailable):
        await Directory(scheduler.http, Token(), fresh_s=0.0).find(INSTANCE)
