"""F16 to F20 and F23: the broker restarts, crashes, cuts, blocks, forgets, and brings rubbish."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from shared.clock import utc_now
from shared.ids import new_id
from tests.e2e.waiting import until
from tests.fault.flows import World
from tests.fault.invariants import broken
from tests.fault.split.breaking import BrokerHands, broker_away, publishers_blocked
from tests.fault.split.rest import comes_to_rest
from tests.fault.split.topology import Split
from tests.fault.split.work import at_work, rent_on, still_answers


@pytest.fixture
async def hands(topology: Split) -> AsyncIterator[BrokerHands]:
    hands = BrokerHands(topology.platform.broker)
    yield hands
    await hands.close()


async def test_people_go_on_while_the_broker_is_killed_in_a_burst_and_nothing_is_lost(
    world: World, topology: Split
) -> None:
    """F17, I21, I24."""
    instance = await rent_on(world, topology.platform.hosts[0])
    async with at_work(world):
        await asyncio.sleep(1.5)
        async with broker_away(topology.platform.broker):
            await still_answers(world, stops=instance)
            assert await broken(topology) == []
    await world.user.arrives(f"/instances/{instance['id']}", "stopped")
    await comes_to_rest(topology)


async def test_consumers_resume_when_all_connections_are_cut(world: World, topology: Split) -> None:
    """F19: three times while people work."""
    async with at_work(world):
        for _ in range(3):
            await asyncio.sleep(1)
            await topology.platform.broker.ctl("close_all_connections", "cut by a test")
        assert await broken(topology) == []
    await comes_to_rest(topology)


@pytest.mark.slow
async def test_a_broker_that_restarts_politely_is_a_pause(world: World, topology: Split) -> None:
    """F16: the node ends; then its application alone."""
    broker = topology.platform.broker
    instance = await rent_on(world, topology.platform.hosts[0])
    async with at_work(world):
        await asyncio.sleep(1)
        async with broker_away(broker, polite=True):
            await still_answers(world, stops=instance)
        await broker.ctl("stop_app")
        await still_answers(world)
        await broker.ctl("start_app")
        assert await broken(topology) == []
    await comes_to_rest(topology)


@pytest.mark.slow
async def test_a_blocking_broker_fills_outboxes_and_stops_no_request(
    world: World, topology: Split
) -> None:
    """F18: longer than a publisher waits for its confirm."""
    instance = await rent_on(world, topology.platform.hosts[0])
    async with publishers_blocked(topology.platform.broker):
        async with asyncio.timeout(60):
            for _ in range(3):
                await still_answers(world)
                await asyncio.sleep(5)
            await still_answers(world, stops=instance)
        await world.operator.post(
            f"/wallets/{world.account_id}/credits", {"amount": "1.00", "note": "blocked"}
        )
        assert await topology.ask("market", "SELECT 1 FROM outbox WHERE published_at IS NULL")
        assert await broken(topology) == []
    await world.user.arrives(f"/instances/{instance['id']}", "stopped")
    await comes_to_rest(topology)


@pytest.mark.slow
async def test_a_fact_waits_while_its_only_binding_is_gone(
    world: World, topology: Split, hands: BrokerHands
) -> None:
    """F20: it comes back from the broker, stays unpublished, and arrives once the consumer has
    renewed its binding."""
    await rent_on(world, topology.platform.hosts[0])

    async def comes_back() -> bool:
        # Its consumer may renew it at any moment.
        await hands.unbind("market.proofs")
        rows = await topology.ask(
            "scheduler",
            "SELECT 1 FROM outbox WHERE published_at IS NULL"
            " AND envelope ->> 'type' = 'scheduler.usage.proven'",
        )
        return bool(rows)

    await until(comes_back, timeout_s=60, what="a proof stays unpublished")
    await comes_to_rest(topology)
    assert await hands.bindings("market.proofs")


@pytest.mark.slow
async def test_what_a_lost_binding_swallowed_is_had_by_telling_it_again(
    world: World, topology: Split, hands: BrokerHands
) -> None:
    """F20: another consumer takes the same fact, so that the broker sends nothing back, and nothing
    makes it good by itself. Told again it has its effect where that is missing, and only there."""
    instance = await rent_on(world, topology.platform.hosts[0])
    assert await hands.unbind("market.runs") > 0
    path = f"/instances/{instance['id']}"
    await world.user.post(f"{path}/stop")
    await world.user.arrives(path, "stopped")
    assert await broken(topology) == []

    async def bound() -> bool:
        return bool(await hands.bindings("market.runs"))

    await until(bound, timeout_s=60, what="the consumer has renewed its bindings")
    await topology.ask(
        "scheduler",
        "UPDATE outbox SET published_at = NULL, claimed_until = NULL"
        " WHERE published_at > now() - interval '1 hour'",
    )
    await comes_to_rest(topology)


@pytest.mark.slow
async def test_poison_is_parked_and_its_neighbours_are_processed(
    world: World, topology: Split, hands: BrokerHands
) -> None:
    """F23: what is no JSON, no envelope, of an unknown version, or of no known type."""
    subject = str(new_id())
    envelope = {
        "specversion": "1.0", "id": str(new_id()), "source": "scheduler", "subject": subject,
        "type": "scheduler.instance.stopped", "time": utc_now().isoformat(), "dataversion": 99,
        "data": {},
    }  # fmt: skip
    odd = envelope | {"id": str(new_id()), "type": "market.odd.thing", "dataversion": 1}
    key = f"scheduler.instance.stopped.{subject}"
    for body in ("{not json", json.dumps({"specversion": "1.0"}), json.dumps(envelope)):
        await hands.publish(key, body)
    await hands.publish(f"market.odd.thing.{subject}", json.dumps(odd))
    instance = await rent_on(world, topology.platform.hosts[0])
    path = f"/instances/{instance['id']}"
    await world.user.post(f"{path}/stop")
    await world.user.arrives(path, "stopped")

    async def all_parked() -> bool:
        rows = await topology.ask("market", "SELECT event_id, consumer FROM dead_letters")
        return [str(row["event_id"]) for row in rows] == [envelope["id"]] and [
            await dead_in(topology, f"{queue}.dead") for queue in ("market.runs", "auth.audit")
        ] == [2, 2]

    await until(all_parked, timeout_s=30, what="each is parked where it belongs")
    assert await broken(topology) == []
    await clear_away(world, topology, [str(envelope["id"]), str(odd["id"])])
    await comes_to_rest(topology)


async def dead_in(topology: Split, queue: str) -> int:
    told = await topology.platform.broker.ctl(
        "list_queues", "-p", "chusuan", "name", "messages", "--no-table-headers"
    )
    return {n: int(c) for n, c in (line.split("\t") for line in told.splitlines())}.get(queue, 0)


async def clear_away(world: World, topology: Split, events: list[str]) -> None:
    """As an operator drops what is of no use; the audit trail forgets what was never true."""
    for letter in await topology.ask("market", "SELECT consumer, event_id FROM dead_letters"):
        await world.operator.send(
            "DELETE", f"/dead-letters/market/{letter['consumer']}/{letter['event_id']}"
        )
    for queue in ("market.runs.dead", "auth.audit.dead"):
        await topology.platform.broker.ctl("purge_queue", "-p", "chusuan", queue)
    for service in ("auth", "market"):
        await topology.ask(service, "DELETE FROM inbox WHERE event_id = ANY($1::uuid[])", events)
