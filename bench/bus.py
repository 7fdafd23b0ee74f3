"""Events from commit to effect, beside bare aio-pika on the same broker in the same run.

Ours: a relay and an inbox consumer of one process, with a real PostgreSQL and RabbitMQ. The clock
starts when EVENTS rows have been committed to the outbox and stops when the last effect (one row
for each event, its id remembered in the same transaction) has been committed.

Theirs: the same process, the same bodies, a quorum queue of the same arguments, persistent messages
with publisher confirms and `mandatory`, one acknowledgement each, and no database; at the best of
the CONCURRENCIES, which are (channels, publishes in flight). From the first publish to the last
acknowledgement.

Then both at half our throughput: ours from the return of the commit, one transaction for each
event, to the return of the handler in another process; theirs from the call to publish, in one
process. Prints one JSON object a line.
"""

import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import ClassVar

import aio_pika
import uvloop
from aio_pika.abc import AbstractIncomingMessage
from sqlalchemy import Column, Integer, MetaData, Table
from sqlalchemy.ext.asyncio import AsyncSession

from cli.up.postgres import Postgres
from shared.bus import AmqpBus, Keeping, Subscription
from shared.bus.topology import declared
from shared.database import Database, new_metadata
from shared.events import Envelope, Payload
from shared.inbox import consume, on
from shared.outbox import Relay, emit
from shared.platform_tables import define_platform_tables
from tests.broker import Broker

EVENTS = int(os.environ.get("CHUSUAN_BENCH_EVENTS", "4000"))
ROUNDS = int(os.environ.get("CHUSUAN_BENCH_ROUNDS", "3"))
SUBJECTS = 200
IN_ONE_COMMIT = 200
CONCURRENCIES = ((1, 100), (1, 500), (4, 200))
LATENCY_S = 15.0
QUEUE = "bench.effects"
LISTENS = b"listens\n"


class Happened(Payload):
    type: ClassVar[str] = "bench.thing.happened"
    number: int


def define_tables() -> MetaData:
    metadata = new_metadata()
    define_platform_tables(metadata)
    Table("effects", metadata, Column("number", Integer()))
    return metadata


METADATA = define_tables()
EFFECT = METADATA.tables["effects"].insert()


async def record(session: AsyncSession, payload: Happened, event: Envelope) -> None:
    await session.execute(EFFECT, {"number": payload.number})


class Arrivals:
    """When each number was handled."""

    def __init__(self, expected: int) -> None:
        self.at: dict[int, float] = {}
        self.all = asyncio.Event()
        self._expected = expected

    def note(self, number: int) -> None:
        self.at[number] = time.perf_counter()
        if len(self.at) >= self._expected:
            self.all.set()


def watched(subscription: Subscription, arrivals: Arrivals) -> Subscription:
    async def handle(event: Envelope) -> None:
        await subscription.handler(event)
        number = event.data["number"]
        assert isinstance(number, int)
        arrivals.note(number)

    return Subscription(subscription.queue, subscription.patterns, handle)


async def write(database: Database, numbers: range) -> None:
    async with database.transaction() as session:
        for number in numbers:
            await emit(session, Happened(number=number), subject=number % SUBJECTS)


class Ours:
    def __init__(self, database: Database, address: str, url: str) -> None:
        """address: of that database; url: of the broker."""
        self.database = database
        self.address = address
        self.url = url

    async def throughput(self) -> float:
        for first in range(0, EVENTS, IN_ONE_COMMIT):
            await write(self.database, range(first, first + IN_ONE_COMMIT))
        bus, arrivals = AmqpBus(self.url), Arrivals(EVENTS)
        await bus.subscribe(watched(consume(self.database, QUEUE, on(Happened, record)), arrivals))
        began = time.perf_counter()
        relay = asyncio.create_task(Relay(self.database, bus).run())
        await arrivals.all.wait()
        took = time.perf_counter() - began
        relay.cancel()
        await asyncio.wait([relay])
        await bus.close()
        return EVENTS / took

    async def latencies(self, rate: float) -> list[float]:
        """As in the split shape: who tells is one process, who hears another."""
        count, sent = int(rate * LATENCY_S), dict[int, float]()
        listener = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.bus", self.address, self.url, str(count),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert listener.stdout is not None
        assert await listener.stdout.readline() == LISTENS
        bus = AmqpBus(self.url)
        relay = asyncio.create_task(Relay(self.database, bus).run())

        async def tell(number: int) -> None:
            await write(self.database, range(number, number + 1))
            sent[number] = time.perf_counter()

        await paced(tell, count, rate)
        said, _ = await listener.communicate()
        relay.cancel()
        await asyncio.wait([relay])
        await bus.close()
        at = json.loads(said)
        return [max(at[str(number)] - sent[number], 0) for number in range(count)]


async def listen(address: str, url: str, count: int) -> None:
    """The second process of `Ours.latencies`: prints when each number was handled, by the
    machine's one monotonic clock."""
    database, bus, arrivals = Database(address), AmqpBus(url), Arrivals(count)
    await bus.subscribe(watched(consume(database, QUEUE, on(Happened, record)), arrivals))
    sys.stdout.buffer.write(LISTENS)
    sys.stdout.buffer.flush()
    await arrivals.all.wait()
    await bus.close()
    await database.close()
    print(json.dumps(arrivals.at))


async def paced(act: Callable[[int], Awaitable[None]], count: int, rate: float) -> None:
    began = time.perf_counter()
    acting: set[asyncio.Task[None]] = set()
    for number in range(count):
        await asyncio.sleep(max(began + number / rate - time.perf_counter(), 0))
        task = asyncio.ensure_future(act(number))
        acting.add(task)
        task.add_done_callback(acting.discard)
    await asyncio.gather(*acting)


class Bare:
    def __init__(self, url: str) -> None:
        self.url = url

    async def carry(
        self,
        arrivals: Arrivals,
        channels: int,
        work: Callable[[Callable[[int], Awaitable[None]]], Awaitable[None]],
    ) -> float:
        """Seconds that `work`, which is given how to publish a number, and all arrivals took."""
        async with (
            await aio_pika.connect(self.url) as out,
            await aio_pika.connect(self.url) as back,
        ):
            consuming = await back.channel()
            await consuming.set_qos(100)
            arguments = declared("bench.bare", Keeping.everything).arguments
            queue = await consuming.declare_queue(
                "bench.bare", durable=True, arguments=dict(arguments)
            )

            async def handle(message: AbstractIncomingMessage) -> None:
                number = json.loads(message.body)["data"]["number"]
                await message.ack()
                arrivals.note(number)

            await queue.consume(handle)
            doors = [
                (await out.channel(on_return_raises=True)).default_exchange for _ in range(channels)
            ]

            async def publish(number: int) -> None:
                event = Envelope.wrap(Happened(number=number), subject=number % SUBJECTS)
                message = aio_pika.Message(event.model_dump_json().encode(), delivery_mode=2)
                await doors[number % channels].publish(message, "bench.bare")

            began = time.perf_counter()
            await work(publish)
            await arrivals.all.wait()
            return time.perf_counter() - began

    async def throughput(self, channels: int, in_flight: int) -> float:
        async def work(publish: Callable[[int], Awaitable[None]]) -> None:
            numbers = iter(range(EVENTS))

            async def one_after_another() -> None:
                for number in numbers:
                    await publish(number)

            await asyncio.gather(*(one_after_another() for _ in range(in_flight)))

        return EVENTS / await self.carry(Arrivals(EVENTS), channels, work)

    async def latencies(self, rate: float) -> list[float]:
        count = int(rate * LATENCY_S)
        arrivals, sent = Arrivals(count), dict[int, float]()

        async def work(publish: Callable[[int], Awaitable[None]]) -> None:
            async def tell(number: int) -> None:
                sent[number] = time.perf_counter()
                await publish(number)

            await paced(tell, count, rate)

        await self.carry(arrivals, 1, work)
        return [arrivals.at[number] - sent[number] for number in range(count)]


def say(name: str, value: float, unit: str, baseline: float) -> None:
    answer = {
        "name": name,
        "value": round(value, 2),
        "unit": unit,
        "baseline": round(baseline, 2),
        "ratio": round(value / baseline, 3),
    }
    print(json.dumps(answer), flush=True)


async def measure(ours: Ours, bare: Bare) -> None:
    rates = []
    reference: dict[tuple[int, int], list[float]] = {each: [] for each in CONCURRENCIES}
    for _ in range(ROUNDS):
        rates.append(await ours.throughput())
        for each, found in reference.items():
            found.append(await bare.throughput(*each))
    rate = statistics.median(rates)
    say("bus_throughput", rate, "1/s", max(statistics.median(r) for r in reference.values()))
    our_ms = [1000 * s for s in await ours.latencies(rate / 2)]
    bare_ms = [1000 * s for s in await bare.latencies(rate / 2)]
    for percent in (50, 99):
        points = [statistics.quantiles(ms, n=100)[percent - 1] for ms in (our_ms, bare_ms)]
        say(f"bus_p{percent}_ms", points[0], "ms", points[1])


async def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="chusuan-bench-"))
    postgres, broker = Postgres(folder / "postgres"), Broker()
    try:
        await asyncio.gather(postgres.start(), broker.start())
        await postgres.create_database("bench")
        address = postgres.url("bench")
        database = Database(address)
        async with database.engine.begin() as connection:
            await connection.run_sync(METADATA.create_all)
        await measure(Ours(database, address, broker.url), Bare(broker.url))
        await database.close()
    finally:
        await broker.close()
        await postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        uvloop.run(listen(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    else:
        uvloop.run(main())
