"""What one host saves or builds, another starts from: through a real OCI registry."""

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr

from agent.base import BaseImage
from agent.building import Workshop
from agent.clearing import Clearing
from agent.credential import Credential
from agent.imaging import DockerImages
from services.registry.clients.oci import HttpOci
from shared.events.agent import DesiredInstance, ImagesWanted, ObservedInstance, SaveOrder
from shared.http import open_client
from shared.ids import new_id
from tests.service.agent.conftest import Stage, docker
from tests.service.agent.oci import OciRegistry

pytestmark = pytest.mark.docker


@dataclass
class Place:
    stage: Stage
    oci: OciRegistry
    credential: Credential

    def reference(self) -> str:
        return f"{self.oci.address}/chusuan/u-test/{new_id().hex}:1"

    def forget(self, *images: str) -> None:
        for image in images:
            with contextlib.suppress(subprocess.CalledProcessError):
                docker("rmi", "-f", image)

    async def started(self, **changes: object) -> DesiredInstance:
        order = self.stage.new_order(**changes)
        await self.stage.tell(order)
        await self.stage.until_state(order, "running")
        return order

    async def save(self, order: DesiredInstance) -> tuple[DesiredInstance, str]:
        """Ordered, not awaited."""
        reference = self.reference()
        save = SaveOrder(image_id=new_id(), reference=reference)
        again = order.model_copy(update={"generation": order.generation + 1, "save": save})
        await self.stage.tell(again)
        return again, reference

    async def saved(self, order: DesiredInstance) -> ObservedInstance:
        return await self.stage.until(
            order.instance_id,
            lambda o: o.save is not None and o.save.state != "saving",
            timeout=120,
        )


@pytest.fixture
async def place(stage: Stage, tmp_path: Path) -> AsyncIterator[Place]:
    node_id = new_id()
    oci = OciRegistry(tmp_path, f"node.{node_id}")
    await oci.start()
    credential = Credential(
        platform="https://platform.example",
        token_hash="",
        node_id=node_id,
        bus_url=SecretStr(stage.settings.bus_url),
        registry_address=oci.address,
        registry_username=oci.user,
        registry_password=SecretStr(oci.password),
    )
    await stage.become(credential)
    yield Place(stage, oci, credential)
    await stage.end_agent()
    await stage.clear()
    images = DockerImages()
    for name in await images.references(f"{oci.address}/chusuan/*/*"):
        await images.untag(name)
    await images.close()
    await oci.kill()


async def test_a_saved_image_starts_by_its_digest_where_it_was_never_made(place: Place) -> None:
    stage = place.stage
    assert stage.reports[-1].node_id == place.credential.node_id
    order = await place.started()
    await stage.ssh(order, "echo mine > /root/note")
    order, reference = await place.save(order)
    save = (await place.saved(order)).save
    assert save is not None
    assert save.state == "saved", save.message
    assert save.digest == await place.oci.digest(reference)
    assert save.size_bytes == int(docker("image", "inspect", "-f", "{{.Size}}", reference))
    place.forget(reference)
    exact = f"{reference}@{save.digest}"
    with pytest.raises(subprocess.CalledProcessError):
        docker("image", "inspect", exact)
    second = await place.started(image=exact)
    assert await stage.ssh(second, "cat /root/note") == "mine"
    await stage.tell(*(o.model_copy(update={"want": "absent", "save": None, "generation": 9})
                       for o in (order, second)))  # fmt: skip
    await stage.until(second.instance_id, lambda o: o.state == "absent")
    place.forget(exact)


async def test_a_registry_killed_in_the_middle_of_a_push_ends_with_a_whole_image(
    place: Place,
) -> None:
    stage = place.stage
    order = await place.started()
    await stage.ssh(order, "dd if=/dev/urandom of=/root/big bs=1M count=300; md5sum /root/big > /x")
    order, reference = await place.save(order)
    await stage.until(
        order.instance_id, lambda o: o.save is not None and "%" in o.save.message, timeout=60
    )
    await place.oci.kill()
    # The instance can be stopped while its image waits.
    stop = order.model_copy(update={"generation": order.generation + 1, "want": "stopped"})
    await stage.tell(stop)
    stopped = await stage.until_state(stop, "stopped")
    assert stopped.save is not None
    assert stopped.save.state == "saving"
    # A crash of the agent on top: the order stands until it is reported.
    await stage.end_agent()
    await place.oci.start()
    assert await place.oci.digest(reference) is None
    await stage.start_agent()
    await stage.tell(stop)
    save = (await place.saved(stop)).save
    assert save is not None
    assert save.state == "saved", save.message
    assert save.digest == await place.oci.digest(reference)
    place.forget(reference)
    second = await place.started(image=f"{reference}@{save.digest}")
    assert await stage.ssh(second, "md5sum -c /x") == "/root/big: OK"


async def test_a_start_waits_for_a_registry_that_is_away_and_a_release_ends_the_wait(
    place: Place,
) -> None:
    stage, image = place.stage, place.reference()
    docker("tag", stage.image, image)
    images = DockerImages(access=place.credential.access)
    digest = (await images.push(image, lambda *_: None)).digest
    await images.close()
    place.forget(image)
    await place.oci.kill()
    first, second = (stage.new_order(image=f"{image}@{digest}", ssh_port=p) for p in (23880, 23882))
    first = first.model_copy(update={"app_port": None})
    await stage.tell(first, second)
    for order in (first, second):
        await stage.until(
            order.instance_id,
            lambda o: o.state == "pulling" and "waiting for the registry" in o.message,
        )
    await stage.tell(first.model_copy(update={"generation": 2, "want": "absent"}))
    await stage.until(first.instance_id, lambda o: o.state == "absent")
    await place.oci.start()
    await stage.until_state(second, "running")


async def test_what_the_registry_lacks_or_forbids_fails_with_a_sentence(place: Place) -> None:
    stage = place.stage
    missing = stage.new_order(image=f"{place.reference()}@sha256:{'0' * 64}")
    await stage.tell(missing)
    failed = await stage.until_state(missing, "failed")
    assert "the registry has no" in failed.message
    wrong = place.credential.model_copy(update={"registry_password": SecretStr("old")})
    await stage.become(wrong)
    order = stage.new_order(image=f"{place.reference()}@sha256:{'0' * 64}", ssh_port=23884)
    await stage.tell(order)
    failed = await stage.until_state(order, "failed")
    assert "does not allow this host" in failed.message


async def test_a_build_reaches_the_registry_and_a_second_host_finds_it(
    place: Place, tmp_path: Path
) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    reference = f"{place.oci.address}/chusuan/u-test/tiny:1"
    images = DockerImages(access=place.credential.access)

    def workshop() -> Workshop:
        base = BaseImage(images, "none")
        return Workshop(images, tmp_path, base, "none", place.oci.address)

    one = workshop()
    assert await one.find(reference) is None
    assert not await one.has(reference)
    made = await one.make("tiny", reference, {"BASE": "none"}, lambda *_: None)
    assert made.digest == await place.oci.digest(reference)
    place.forget(reference)
    (tmp_path / "tiny" / "Dockerfile").write_text("not to be built again")
    other = workshop()
    found = await other.find(reference)
    assert found is not None
    assert (found.digest, found.size_bytes) == (made.digest, 0)
    assert (await other.make("tiny", reference, {}, lambda *_: None)).digest == made.digest
    assert await images.image(reference) is None
    assert await other.has(reference)
    assert await images.image(reference) is not None
    await images.close()


async def test_a_deleted_image_is_gone_from_the_registry_and_again_is_no_error(
    place: Place,
) -> None:
    reference = place.reference()
    docker("tag", place.stage.image, reference)
    images = DockerImages(access=place.credential.access)
    await images.push(reference, lambda *_: None)
    await images.close()
    name, _, tag = reference.removeprefix(f"{place.oci.address}/").rpartition(":")
    login = SecretStr(f"{place.oci.user}:{place.oci.password}")
    async with open_client(f"http://{place.oci.address}") as http:
        for _ in range(2):
            await HttpOci(http, login).delete(name, tag)
            assert await place.oci.digest(reference) is None


async def test_clearing_takes_what_was_pulled_by_digest_too(place: Place) -> None:
    images = DockerImages(access=place.credential.access)
    gone, kept = place.reference(), place.reference()
    for reference in (gone, kept):
        docker("tag", place.stage.image, reference)
        digest = (await images.push(reference, lambda *_: None)).digest
        place.forget(reference)
        await images.pull(f"{reference}@{digest}", lambda *_: None)
    await Clearing(images, place.oci.address).take(ImagesWanted(images=[], unwanted=[gone]))
    there = await images.references(f"{place.oci.address}/chusuan/u-*/*")
    assert [name.partition("@")[0] for name in there] == [kept.rpartition(":")[0]]
    await images.close()
    await asyncio.to_thread(place.forget, *there)
