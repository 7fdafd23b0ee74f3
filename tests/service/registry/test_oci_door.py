"""What the door before the OCI registry is told about requests of hosts."""

import asyncio
import base64
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from services.registry.clients.oci import FakeOci
from services.registry.clients.scheduler import FakeScheduler
from shared.errors import Unavailable
from shared.events.agent import ImageReported
from shared.events.scheduler import InstanceSaved
from shared.ids import new_id
from tests.service.registry.conftest import House, Json, Opener

OCI = "oci.example:5443"
NODE, OTHER = new_id(), new_id()
BUILDER, STRANGER = f"node.{NODE}", f"node.{OTHER}"
PASSWORDS = {BUILDER: "right", STRANGER: "too"}
DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def scheduler() -> FakeScheduler:
    return FakeScheduler(dict(PASSWORDS))


@pytest.fixture
async def house(open_house: Opener, scheduler: FakeScheduler) -> AsyncIterator[House]:
    async with open_house(scheduler=scheduler, oci_address=OCI, resend_s=0.05) as started:
        yield started


async def ask(
    house: House, method: str, uri: str, login: str = BUILDER, password: str | None = None
) -> int:
    words = f"{login}:{PASSWORDS.get(login, '') if password is None else password}"
    headers = {
        "authorization": f"Basic {base64.b64encode(words.encode()).decode()}",
        "x-original-method": method,
        "x-original-uri": uri,
    }
    answer = await house.http.get("/internal/oci/authorise", headers=headers)
    assert ("www-authenticate" in answer.headers) == (answer.status_code == 401)
    return answer.status_code


def uri_of(image: Json, rest: str = "manifests/1") -> str:
    name = str(image["address"]).removeprefix(f"{OCI}/").rpartition(":")[0]
    return f"/v2/{name}/{rest}"


async def report(house: House, image: Json, state: str, source: str, digest: str = DIGEST) -> Json:
    said = ImageReported(
        image_id=UUID(image["id"]), state=state, digest=digest, size_bytes=5
    )  # fmt: skip
    await house.say_as(source, said)
    return await house.get(f"/images/{image['id']}")


async def test_addresses_begin_with_the_registry(house: House) -> None:
    assert (await house.system())["address"] == f"{OCI}/chusuan/minimal:1"
    assert (await house.saving())["address"].startswith(f"{OCI}/chusuan/u-")


async def test_only_a_nodes_own_login_is_known(house: House) -> None:
    assert await ask(house, "GET", "/v2/") == 200
    assert await ask(house, "GET", "/v2/", password="wrong") == 401
    assert await ask(house, "GET", "/v2/", login="guest", password="guest") == 401
    assert await ask(house, "GET", "/v2/", login=f"{BUILDER}\n") == 401
    assert await ask(house, "GET", "/v2/", password="right\0") == 401
    for headers in ({}, {"authorization": "Bearer x"}, {"authorization": "Basic ÿ!"}):
        raw = [(k.encode(), v.encode("latin-1")) for k, v in headers.items()]
        answer = await house.http.get("/internal/oci/authorise", headers=raw)
        assert answer.status_code == 401


async def test_a_password_is_asked_for_once_and_a_wrong_one_each_time(
    house: House, scheduler: FakeScheduler
) -> None:
    for _ in range(3):
        assert await ask(house, "GET", "/v2/") == 200
        assert await ask(house, "GET", "/v2/", password="wrong") == 401
    assert len(scheduler.asked) == 4


async def test_a_scheduler_that_is_away_is_no_refusal(
    house: House, scheduler: FakeScheduler
) -> None:
    async def away(login: str, password: str) -> bool:
        raise Unavailable

    scheduler.knows_node = away  # type: ignore[method-assign]  # a fake's own answer
    assert await ask(house, "GET", "/v2/") == 503


async def test_a_system_image_is_pushed_by_its_builder_alone_until_it_is_ready(
    house: House,
) -> None:
    image = await house.system()
    push, pull = uri_of(image), uri_of(image, f"blobs/{DIGEST}")
    assert await ask(house, "PUT", push) == 403
    await report(house, image, "building", BUILDER)
    assert await ask(house, "PUT", push) == 200
    assert await ask(house, "POST", uri_of(image, "blobs/uploads/")) == 200
    assert await ask(house, "PUT", push, login=STRANGER) == 403
    assert await ask(house, "PUT", uri_of(image, "manifests/2")) == 403
    await report(house, image, "ready", BUILDER)
    assert await ask(house, "PUT", push) == 403
    assert await ask(house, "GET", pull, login=STRANGER) == 200


async def test_a_save_is_pushed_by_its_own_host_alone_until_it_is_ready(house: House) -> None:
    image = await house.saving(node_id=str(NODE))
    push = uri_of(image)
    assert await ask(house, "PUT", push) == 200
    assert await ask(house, "PUT", push, login=STRANGER) == 403
    await house.say(
        InstanceSaved(
            instance_id=UUID(image["instance_id"]),
            image_id=UUID(image["id"]),
            digest=DIGEST,
            size_bytes=1,
        )
    )
    assert await ask(house, "PUT", push) == 403
    assert await ask(house, "GET", uri_of(image, f"manifests/{DIGEST}"), login=STRANGER) == 200


async def test_what_is_not_there_is_neither_pulled_nor_mounted(house: House) -> None:
    mine = await house.saving(node_id=str(NODE))
    gone = await house.saving("gone", node_id=str(NODE))
    mount = uri_of(mine, f"blobs/uploads/?mount={DIGEST}&from=")
    source = uri_of(gone)[len("/v2/") : -len("/manifests/1")]
    assert await ask(house, "POST", mount + source) == 200
    await house.call("DELETE", f"/api/v1/images/{gone['id']}")
    assert await ask(house, "GET", uri_of(gone)) == 403
    assert await ask(house, "PUT", uri_of(gone)) == 403
    assert await ask(house, "POST", mount + source) == 403
    assert await ask(house, "GET", "/v2/chusuan/nothing/manifests/1") == 403
    assert await ask(house, "GET", "/v2/_catalog") == 403


async def test_an_underscore_in_no_name_stands_for_another_letter(house: House) -> None:
    assert await ask(house, "GET", "/v2/chusuan/minima_/manifests/1") == 403


async def test_the_first_that_reports_builds_and_another_flips_nothing(house: House) -> None:
    image = await house.system()
    await house.told(lambda w: w.images[0].builder is None)
    await report(house, image, "building", BUILDER)
    await house.told(lambda w: w.images[0].builder == BUILDER)
    await report(house, image, "ready", BUILDER)
    same = await report(house, image, "building", STRANGER)
    assert same["status"] == "ready"
    same = await report(house, image, "ready", STRANGER, "sha256:" + "b" * 64)
    assert same["digest"] == DIGEST
    assert (await report(house, image, "building", ""))["status"] == "ready"


async def test_a_silent_builder_is_followed_by_another_and_the_image_stays_ready(
    open_house: Opener, scheduler: FakeScheduler
) -> None:
    async with open_house(scheduler=scheduler, resend_s=0.05, builder_lapses_s=0.0) as house:
        image = await house.system()
        await report(house, image, "ready", BUILDER)
        await house.told(lambda w: w.images[0].builder is None)
        found = ImageReported(image_id=UUID(image["id"]), state="ready", digest=DIGEST)
        await house.say_as(STRANGER, found)
        shown = await house.get(f"/images/{image['id']}")
        assert (shown["status"], shown["digest"], shown["size_bytes"]) == ("ready", DIGEST, 5)


class AwayOci(FakeOci):
    """Does not answer the first time."""

    async def delete(self, repository: str, tag: str) -> None:
        if not self.deleted:
            self.deleted.append(("", ""))
            raise Unavailable
        await super().delete(repository, tag)


async def purged(oci: FakeOci, count: int) -> None:
    async with asyncio.timeout(10):
        while len(oci.deleted) < count:
            await asyncio.sleep(0.01)


async def test_a_deleted_image_leaves_the_registry_once_also_when_that_was_away(
    open_house: Opener, scheduler: FakeScheduler
) -> None:
    oci = AwayOci()
    async with open_house(scheduler=scheduler, oci=oci, oci_address=OCI, purge_s=0.02) as house:
        kept, gone = await house.saving("kept"), await house.saving("gone")
        await house.call("DELETE", f"/api/v1/images/{gone['id']}")
        await purged(oci, 2)
        name = uri_of(gone)[len("/v2/") : -len("/manifests/1")]
        assert oci.deleted == [("", ""), (name, "1")]
        await house.call("DELETE", f"/api/v1/images/{kept['id']}")
        await purged(oci, 3)
        assert oci.deleted[1:] == [(name, "1"), (uri_of(kept)[4:-12], "1")]
