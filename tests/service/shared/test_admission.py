"""A node's login at a real broker: what it is for, and all that it can not do."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID

import aio_pika
import httpx
import pytest
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import AMQPError
from aiormq.exceptions import ChannelAccessRefused, ChannelPreconditionFailed

from shared.bus import AmqpBus, Keeping, Subscription, Undeliverable
from shared.bus.admission import AdmittedQueue, BrokerAdmission, BrokerAway, BrokerRefused
from shared.events import Envelope
from shared.events.agent import ImageReported, ImagesWanted, NodeDesired
from shared.ids import new_id
from tests.broker import Broker
from tests.contract.test_bus_on_broker import until

ONE, OTHER = UUID(int=1), UUID(int=2)


def queues_of(node: UUID) -> list[AdmittedQueue]:
    return [
        AdmittedQueue(f"agent.{node}.desired", (NodeDesired.type,), str(node), Keeping.states),
        AdmittedQueue(f"agent.{node}.images", (ImagesWanted.type,), None, Keeping.states),
    ]


def desired(node: UUID) -> Envelope:
    wanted = NodeDesired(node_id=node, issued_at="2026-01-01T00:00:00Z", instances=[])
    return Envelope.wrap(wanted, subject=node)


def reported() -> Envelope:
    return Envelope.wrap(ImageReported(image_id=new_id(), state="building"), subject=new_id())


class Inbox:
    def __init__(self) -> None:
        self.events: asyncio.Queue[Envelope] = asyncio.Queue()

    async def take(self, event: Envelope) -> None:
        await self.events.put(event)

    async def next(self) -> Envelope:
        async with asyncio.timeout(30):
            return await self.events.get()


@pytest.fixture
async def admission(broker: Broker, broker_url: str) -> AsyncIterator[BrokerAdmission]:
    async with BrokerAdmission(broker.admin_url, vhost=broker_url.rpartition("/")[2]) as admission:
        yield admission
        for node in (ONE, OTHER):
            await admission.dismiss(f"node.{node}", [])


@pytest.fixture
async def platform(broker_url: str) -> AsyncIterator[AmqpBus]:
    bus = AmqpBus(broker_url)
    yield bus
    await bus.close()


@pytest.fixture
async def node_url(broker: Broker, broker_url: str, admission: BrokerAdmission) -> str:
    """The login of node ONE, while node OTHER is admitted too."""
    for node in (ONE, OTHER):
        await admission.admit(f"node.{node}", f"secret {node}", queues_of(node), may_report=True)
    vhost = broker_url.rpartition("/")[2]
    return broker.url_for(f"node.{ONE}", f"secret%20{ONE}", vhost)


@pytest.fixture
async def node(node_url: str) -> AsyncIterator[AmqpBus]:
    bus = AmqpBus(node_url)
    yield bus
    await bus.close()


@pytest.fixture
async def channel(node_url: str) -> AsyncIterator[AbstractChannel]:
    """What somebody could do who stole the node's credential."""
    async with await aio_pika.connect(node_url) as connection:
        yield await connection.channel(on_return_raises=True)


async def test_a_node_hears_its_orders_and_its_reports_carry_its_name(
    platform: AmqpBus, node: AmqpBus
) -> None:
    orders, images, reports = Inbox(), Inbox(), Inbox()
    await platform.subscribe(
        Subscription("reports", (ImageReported.type,), reports.take, keeping=Keeping.states)
    )
    for kind, inbox in (("desired", orders), ("images", images)):
        pattern = NodeDesired.type if kind == "desired" else ImagesWanted.type
        queue = f"agent.{ONE}.{kind}"
        await node.subscribe(Subscription(queue, (pattern,), inbox.take, keeping=Keeping.states))
    await platform.publish(desired(ONE))
    await platform.publish(Envelope.wrap(ImagesWanted(images=[]), subject="all"))
    assert (await orders.next()).subject == str(ONE)
    assert (await images.next()).type == ImagesWanted.type
    await node.publish(reported())
    assert (await reports.next()).source == f"node.{ONE}"
    assert await node.alive(within_s=20)


async def test_a_report_without_a_login_comes_from_nobody(
    platform: AmqpBus, channel: AbstractChannel
) -> None:
    reports = Inbox()
    await platform.subscribe(
        Subscription("reports", (ImageReported.type,), reports.take, keeping=Keeping.states)
    )
    event = reported()
    exchange = await channel.get_exchange("chusuan.reports", ensure=False)
    body = event.model_copy(update={"source": f"node.{OTHER}"}).model_dump_json().encode()
    await exchange.publish(aio_pika.Message(body), f"{event.type}.{event.subject}")
    assert (await reports.next()).source == ""


async def test_a_node_can_not_claim_another_login(
    platform: AmqpBus, channel: AbstractChannel
) -> None:
    exchange = await channel.get_exchange("chusuan.reports", ensure=False)
    forged = aio_pika.Message(b"{}", user_id=f"node.{OTHER}")
    with pytest.raises(ChannelPreconditionFailed):
        await exchange.publish(forged, "agent.image.reported.x")


@pytest.mark.parametrize(
    "exchange", ["chusuan.facts", "chusuan.orders", "chusuan.known", "chusuan.dead", ""]
)
async def test_a_node_can_not_speak_as_the_platform(
    platform: AmqpBus, channel: AbstractChannel, exchange: str
) -> None:
    target = await channel.get_exchange(exchange, ensure=False)
    with pytest.raises(ChannelAccessRefused):
        await target.publish(aio_pika.Message(b"{}"), f"agent.{OTHER}.desired")


async def test_a_node_can_not_report_what_is_no_report(
    platform: AmqpBus, channel: AbstractChannel
) -> None:
    target = await channel.get_exchange("chusuan.reports", ensure=False)
    with pytest.raises(ChannelAccessRefused):
        await target.publish(aio_pika.Message(b"{}"), "auth.account.approved.x")


Deed = Callable[[AbstractChannel], Awaitable[object]]


async def _read_of_another(channel: AbstractChannel) -> object:
    queue = await channel.get_queue(f"agent.{OTHER}.desired", ensure=False)
    return await queue.get(fail=False)


async def _empty_that_of_another(channel: AbstractChannel) -> object:
    return await (await channel.get_queue(f"agent.{OTHER}.desired", ensure=False)).purge()


async def _bind_its_own_to_facts(channel: AbstractChannel) -> object:
    queue = await channel.get_queue(f"agent.{ONE}.desired", ensure=False)
    return await queue.bind("chusuan.facts", "#")


async def _make_a_queue(channel: AbstractChannel) -> object:
    return await channel.declare_queue("mine", exclusive=True)


async def _make_an_exchange(channel: AbstractChannel) -> object:
    return await channel.declare_exchange("mine")


async def _delete_its_own_queue(channel: AbstractChannel) -> object:
    return await channel.queue_delete(f"agent.{ONE}.desired")


@pytest.mark.parametrize(
    "deed",
    [
        _read_of_another,
        _empty_that_of_another,
        _bind_its_own_to_facts,
        _make_a_queue,
        _make_an_exchange,
        _delete_its_own_queue,
    ],
)
async def test_a_node_can_not(platform: AmqpBus, channel: AbstractChannel, deed: Deed) -> None:
    with pytest.raises(ChannelAccessRefused):
        await deed(channel)


async def test_an_agent_that_comes_before_its_admission_hears_once_it_is_admitted(
    broker: Broker, broker_url: str, platform: AmqpBus, admission: BrokerAdmission
) -> None:
    vhost = broker_url.rpartition("/")[2]
    await admission.admit(f"node.{ONE}", "secret", [], may_report=False)
    early, orders = AmqpBus(broker.url_for(f"node.{ONE}", "secret", vhost)), Inbox()
    try:
        queue = f"agent.{ONE}.desired"
        wanted = Subscription(queue, (NodeDesired.type,), orders.take, keeping=Keeping.states)
        await early.subscribe(wanted)
        with pytest.raises(Undeliverable):
            await early.publish(reported())
        await admission.admit(f"node.{ONE}", "secret", queues_of(ONE), may_report=True)
        await platform.publish(desired(ONE))
        await orders.next()
    finally:
        await early.close()


async def test_dismissing_a_node_ends_its_connection_login_and_queues_and_may_be_repeated(
    platform: AmqpBus, node: AmqpBus, node_url: str, admission: BrokerAdmission
) -> None:
    assert await node.alive(within_s=20)
    queues = [queue.queue for queue in queues_of(ONE)]
    for _ in range(2):
        await admission.dismiss(f"node.{ONE}", queues)

    async def is_out() -> bool:
        return not await node.alive(within_s=0.5)

    await until(is_out)
    with pytest.raises(AMQPError):
        await aio_pika.connect(node_url, timeout=10)
    with pytest.raises(Undeliverable):
        await platform.publish(desired(ONE))


async def test_admitting_again_replaces_the_password(
    node_url: str, admission: BrokerAdmission
) -> None:
    await admission.admit(f"node.{ONE}", "another", queues_of(ONE), may_report=True)
    with pytest.raises(AMQPError):
        await aio_pika.connect(node_url, timeout=10)
    await (await aio_pika.connect(node_url.replace(f"secret%20{ONE}", "another"))).close()


async def test_it_is_told_apart_whether_the_broker_is_away_or_refuses(broker: Broker) -> None:
    async with BrokerAdmission("http://nobody:nothing@127.0.0.1:1") as away:
        with pytest.raises(BrokerAway):
            await away.dismiss("node.x", [])
    wrong = broker.admin_url.replace("://platform:", "://nobody:")
    async with BrokerAdmission(wrong) as refused:
        with pytest.raises(BrokerRefused):
            await refused.dismiss("node.x", [])


async def test_a_broker_that_lost_its_exchanges_has_them_again_with_the_next_admission(
    broker: Broker, broker_url: str, admission: BrokerAdmission, node: AmqpBus
) -> None:
    vhost = broker_url.rpartition("/")[2]
    async with httpx.AsyncClient(base_url=broker.admin_url, trust_env=False) as http:
        path = f"/api/exchanges/{vhost}/chusuan.orders"
        (await http.delete(path)).raise_for_status()
        await admission.admit(f"node.{ONE}", f"secret {ONE}", queues_of(ONE), may_report=True)
        assert (await http.get(path)).status_code == 200
