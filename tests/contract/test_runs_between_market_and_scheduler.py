"""The market's client of the scheduler, against the real scheduler; and both after lost facts."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from cli.up import wiring
from cli.up.home import SERVICES, Home
from cli.up.wiring import PlatformOptions, Wiring
from services.market.clients.scheduler import HttpScheduler, SchedulerClient
from services.market.reconciling import settle_ended
from services.scheduler.accounting import KEPT, clear_ends
from services.scheduler.contact import declare_lost, silence
from shared.clock import utc_now
from shared.events.agent import ObservedState
from shared.events.scheduler import InstanceResumed, InstanceStarted, InstanceStopped
from shared.http import RemoteRefusal
from shared.ids import new_id
from shared.tokens import Role
from tests.service.gateway.serving import served
from tests.service.market.conftest import House as Market
from tests.service.market.conftest import Opener as MarketOpener
from tests.service.market.conftest import open_house as open_market
from tests.service.scheduler.conftest import Agent, House, Json, Opener, open_house

__all__ = ["open_house", "open_market"]


class ServiceToken:
    def __init__(self, house: House, role: Role = Role.service) -> None:
        self._house = house
        self._role = role

    async def get(self) -> str:
        return self._house.headers(role=self._role)["authorization"].removeprefix("Bearer ")


@pytest.fixture
async def house(open_house: Opener) -> AsyncIterator[House]:
    async with open_house(contact_s=3600.0) as started:
        yield started


@pytest.fixture
async def agent(house: House) -> Agent:
    return await house.add_agent()


@pytest.fixture
def scheduler(house: House) -> HttpScheduler:
    return HttpScheduler(house.http, ServiceToken(house))


@pytest.fixture
async def market(
    open_market: MarketOpener, new_database: Callable[[], Awaitable[str]]
) -> AsyncIterator[Market]:
    """It hears nothing of this scheduler but what a test tells it."""
    url = await new_database()
    async with open_market(database_url=url, reconcile_s=3600.0, reconcile_grace_s=0.0) as opened:
        yield opened


async def authorisation(house: House, instance: Json) -> UUID:
    statement = "SELECT authorisation_id FROM instances WHERE id = :id"
    found: UUID = (await house.rows(statement, id=UUID(instance["id"])))[0][0]
    return found


def moment(words: object) -> datetime:
    return datetime.fromisoformat(str(words))


async def test_what_runs_is_listed_page_by_page_and_what_does_not_yet_is_not(
    house: House, agent: Agent, scheduler: HttpScheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.market.clients.scheduler.MOST_RUNS", 2)
    running = [await house.running(agent) for _ in range(3)]
    await house.rent(agent)
    wanted = {await authorisation(house, each): UUID(each["id"]) for each in running}
    first = await scheduler.running(None)
    second = await scheduler.running(first[-1].authorisation_id)
    assert (len(first), len(second)) == (2, 1)
    assert {run.authorisation_id: run.instance_id for run in (*first, *second)} == wanted
    assert all(0 <= run.for_s < 60 for run in first)


async def test_a_run_stands_until_its_stop_is_proven_and_then_has_the_time_that_was_told(
    house: House, agent: Agent, scheduler: HttpScheduler
) -> None:
    instance = await house.running(agent)
    id_ = await authorisation(house, instance)
    await house.move(instance, "stop")
    said = await scheduler.states_of([id_, new_id()])
    assert (said.standing, said.ended) == (frozenset({id_}), {})
    await agent.stops(instance["id"])
    (told,) = await house.facts.told(InstanceStopped)
    said = await scheduler.states_of([id_])
    assert said.standing == frozenset()
    assert said.ended[id_].stopped_at == moment(told["stopped_at"])
    assert 0 <= said.ended[id_].ago_s < 60
    assert await scheduler.running(None) == []


async def test_each_run_of_an_instance_keeps_its_own_end_through_restarts_and_release(
    house: House, agent: Agent, scheduler: HttpScheduler
) -> None:
    instance = await house.running(agent)
    first = await authorisation(house, instance)
    await house.move(instance, "restart")
    await agent.stops(instance["id"])
    await agent.runs(instance["id"])
    second = await authorisation(house, instance)
    assert second != first
    assert (await scheduler.states_of([first, second])).standing == frozenset({second})
    await house.move(instance, "release")
    await agent.ordered(instance["id"], want="absent")
    await agent.sees(instance["id"], ObservedState.absent)
    await house.until(instance["id"], "released")
    told = {UUID(f["authorisation_id"]): f for f in await house.facts.told(InstanceStopped, 2)}
    ended = (await scheduler.states_of([first, second])).ended
    assert {id_: end.stopped_at for id_, end in ended.items()} == {
        id_: moment(fact["stopped_at"]) for id_, fact in told.items()
    }


async def test_a_run_on_a_lost_host_has_ended_at_its_last_proof_and_goes_on_as_another(
    house: House, agent: Agent, scheduler: HttpScheduler
) -> None:
    instance = await house.running(agent)
    first = await authorisation(house, instance)
    await house.rows("UPDATE nodes SET heard_at = now() - interval '9 minutes' RETURNING id")
    await silence(house.tools, utc_now())
    await declare_lost(house.tools, utc_now())
    (told,) = await house.facts.told(InstanceStopped)
    ended = (await scheduler.states_of([first])).ended
    assert ended[first].stopped_at == moment(told["stopped_at"])
    await agent.report()
    await house.facts.told(InstanceResumed)
    (run,) = await scheduler.running(None)
    assert run.authorisation_id != first


async def test_only_parts_of_the_platform_may_ask_and_not_for_too_many(
    house: House, scheduler: HttpScheduler
) -> None:
    for role in (Role.user, Role.operator):
        stranger = HttpScheduler(house.http, ServiceToken(house, role))
        with pytest.raises(RemoteRefusal) as refused:
            await stranger.running(None)
        assert refused.value.status == 403
        with pytest.raises(RemoteRefusal) as refused:
            await stranger.states_of([new_id()])
        assert refused.value.status == 403
    with pytest.raises(RemoteRefusal) as refused:
        await scheduler.states_of([new_id() for _ in range(201)])
    assert refused.value.status == 422


async def test_ends_are_forgotten_after_a_quarter_of_a_year(
    house: House, agent: Agent, scheduler: HttpScheduler
) -> None:
    for age in (KEPT + timedelta(days=1), KEPT - timedelta(days=1)):
        instance = await house.stopped(agent)
        await house.rows(
            "UPDATE run_ends SET recorded_at = :at WHERE instance_id = :id RETURNING 1",
            at=utc_now() - age, id=UUID(instance["id"]),
        )  # fmt: skip
    async with house.tools.database.transaction() as session:
        await clear_ends(session)
    assert len(await house.rows("SELECT 1 FROM run_ends")) == 1


async def test_a_stop_that_the_market_never_heard_is_billed_to_the_second_all_the_same(
    house: House, agent: Agent, scheduler: HttpScheduler, market: Market
) -> None:
    payer = await market.account("100")
    instance = await house.running(agent)
    id_ = await authorisation(house, instance)
    answer = await market.ask(payer, id=str(id_), instance_id=instance["id"])
    assert answer.status_code == 200, answer.text
    (started,) = await house.facts.told(InstanceStarted)
    await market.tell(InstanceStarted.model_validate(started))
    await house.move(instance, "stop")
    stopped_at = moment(started["started_at"]) + timedelta(seconds=1800)
    await agent.stops(instance["id"], finished_at=stopped_at)
    await house.facts.told(InstanceStopped)
    tools = market.tools.__class__(market.tools.settings, market.tools.database, scheduler)
    assert await settle_ended(tools) == 0
    bill = await market.bill(payer)
    assert (bill["seconds"], bill["amount"]) == (1800, "0.9400")


async def test_in_one_process_the_market_reaches_the_scheduler_with_a_token_of_its_own(
    new_database: Callable[[], Awaitable[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "BUS", f"memory://{new_id().hex}")
    # A socket's path is short, and pytest's folders are not.
    folder = Path(tempfile.mkdtemp(prefix="chusuan-rooms-"))
    home = Home(folder)
    home.prepare()
    databases = {name: await new_database() for name in SERVICES}
    options = PlatformOptions(home=home, recipes=folder)
    apps = Wiring(options, databases.__getitem__).services()
    names = ("auth", "market", "scheduler")
    async with served(*((apps[name], {"uds": str(home.socket(name))}) for name in names)):
        reached: SchedulerClient = apps["market"].state.tools.scheduler
        assert await reached.running(None) == []
        assert (await reached.states_of([new_id()])).ended == {}
    shutil.rmtree(folder)
