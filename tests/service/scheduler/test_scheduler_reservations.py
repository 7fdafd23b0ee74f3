"""What is asked of market and registry is used once or given back, whatever is lost on the way."""

from services.scheduler.clients.market import Authorisation, StartRequest
from services.scheduler.reserving import give_back_forgotten
from shared.errors import Unavailable
from shared.events.scheduler import StartAbandoned
from tests.service.scheduler.conftest import Agent, House, Opener

KEY = {"idempotency-key": "rent-of-a-lost-answer"}


async def test_a_request_sent_again_after_a_lost_answer_asks_for_the_same_money(
    house: House, agent: Agent
) -> None:
    house.market.lost_answers = 1
    lost = await house.post("/instances", house.wish(agent), **KEY)
    assert lost.status_code == 503
    again = await house.post("/instances", house.wish(agent), **KEY)
    assert again.status_code == 201
    first, second = house.market.asked
    assert first == second
    assert again.json()["id"] == str(first.instance_id)
    assert await house.rows("SELECT * FROM reservations") == []
    third = await house.post("/instances", house.wish(agent), **KEY)
    assert third.json() == again.json()
    assert len(house.market.asked) == 2


async def test_a_request_that_never_comes_back_gives_its_money_back(open_house: Opener) -> None:
    async with open_house(reservation_lives_s=0.0) as house:
        agent = await house.add_agent()
        house.market.lost_answers = 1
        assert (await house.post("/instances", house.wish(agent), **KEY)).status_code == 503
        await give_back_forgotten(house.tools)
        told = await house.facts.told(StartAbandoned)
        assert told[0]["authorisation_id"] == str(house.market.asked[0].authorisation_id)
        await give_back_forgotten(house.tools)
        assert len(house.facts.of(StartAbandoned)) == 1


async def test_a_request_whose_reservation_was_given_back_meanwhile_has_no_effect(
    house: House, agent: Agent
) -> None:
    authorise = house.market.authorise

    class SlowMarket:
        async def authorise(self, start: StartRequest, *, token: str) -> Authorisation:
            answer = await authorise(start, token=token)
            await house.rows("DELETE FROM reservations RETURNING id")
            return answer

    object.__setattr__(house.tools, "market", SlowMarket())
    refused = await house.post("/instances", house.wish(agent), **KEY)
    assert refused.status_code == Unavailable.status
    assert await house.promised() == 0
    assert await house.rows("SELECT * FROM instances") == []
