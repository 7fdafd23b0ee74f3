"""An instance saved as an image: its place, its end, its name, and its owner's wishes."""

import asyncio
from uuid import UUID

import pytest

from shared.events.scheduler import InstanceSaved, InstanceSaveFailed
from shared.ids import new_id
from shared.tokens import AccountStatus
from tests.service.registry.conftest import House, Json, Opener


def saved(image: Json) -> InstanceSaved:
    return InstanceSaved(
        instance_id=UUID(image["instance_id"]),
        image_id=UUID(image["id"]),
        digest="sha256:abc",
        size_bytes=42,
    )


def failed(image: Json, reason: str = "disk full") -> InstanceSaveFailed:
    return InstanceSaveFailed(
        instance_id=UUID(image["instance_id"]), image_id=UUID(image["id"]), reason=reason
    )


async def ready(house: House, name: str = "mine", **changes: object) -> Json:
    image = await house.saving(name, **changes)
    await house.say(saved(image))
    return await house.get(f"/images/{image['id']}")


async def test_a_save_inherits_what_its_source_is_and_becomes_ready(house: House) -> None:
    source = await house.system("jupyter")
    image = await house.saving("  肺结节 v1 ", source_image_id=source["id"])
    assert (image["name"], image["status"], image["kind"]) == ("肺结节 v1", "building", "saved")
    for same in ("framework", "framework_version", "python", "cuda", "apps"):
        assert image[same] == source[same]
    assert (image["creator"], image["owner_id"]) == ("tester", str(house.account_id))
    assert image["address"].startswith("chusuan/u-")
    await house.say(saved(image))
    done = await house.get(f"/images/{image['id']}")
    assert (done["status"], done["digest"], done["size_bytes"]) == ("ready", "sha256:abc", 42)


async def test_a_place_asked_for_twice_is_one_image(house: House) -> None:
    body = {"image_id": str(new_id()), "instance_id": str(new_id())}
    first, again = await house.saving(**body), await house.saving(**body)
    assert first == again
    assert await house.names(tab="mine") == ["mine"]


async def test_two_at_once_get_one_name_once(house: House) -> None:
    answers = await asyncio.gather(*(house.place("same") for _ in range(5)))
    assert sorted(a.status_code for a in answers) == [201, 409, 409, 409, 409]
    refused = next(a for a in answers if a.status_code == 409).json()
    assert (refused["code"], refused["field"]) == ("image_name_taken", "name")


async def test_an_id_of_another_image_is_refused_whoever_owns_it(house: House) -> None:
    image = await house.saving()
    for answer in (
        await house.place("other", image_id=image["id"]),
        await house.call(
            "POST",
            "/internal/images",
            as_=new_id(),
            json={
                "image_id": image["id"],
                "name": "mine",
                "source_image_id": image["source_image_id"],
                "instance_id": image["instance_id"],
            },
        ),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "image_id_taken")


async def test_another_persons_image_is_no_source_but_a_deleted_own_one_is(house: House) -> None:
    image = await ready(house)
    stranger = await house.call(
        "POST",
        "/internal/images",
        as_=new_id(),
        json={
            "image_id": str(new_id()),
            "name": "stolen",
            "source_image_id": image["id"],
            "instance_id": str(new_id()),
        },
    )
    assert stranger.status_code == 404
    await house.call("DELETE", f"/api/v1/images/{image['id']}")
    child = await house.saving("child", source_image_id=image["id"])
    assert child["python"] == "3.11"


async def test_a_failed_save_says_why_and_gives_its_name_up(house: House) -> None:
    image = await house.saving()
    await house.say(failed(image, "no space\x00 left"))
    shown = await house.get(f"/images/{image['id']}")
    assert (shown["status"], shown["message"]) == ("failed", "no space left")
    again = await house.saving()
    assert again["id"] != image["id"]
    assert [i["id"] for i in (await house.get("/images", tab="mine"))["items"]] == [again["id"]]


async def test_news_of_a_failure_after_it_was_ready_changes_nothing(house: House) -> None:
    image = await ready(house)
    await house.say(failed(image))
    assert (await house.get(f"/images/{image['id']}"))["status"] == "ready"


async def test_a_save_without_an_end_fails_by_itself_and_a_late_end_still_counts(
    open_house: Opener,
) -> None:
    async with open_house(save_timeout_s=0.1) as house:
        image = await house.saving()
        overdue = await house.until(image, "failed")
        assert "保存超时" in overdue["message"]
        await house.say(saved(image))
        assert (await house.get(f"/images/{image['id']}"))["status"] == "ready"


async def test_an_owner_renames_and_locks(house: House) -> None:
    image = await ready(house)
    await ready(house, "other")
    path = f"/api/v1/images/{image['id']}"
    renamed = await house.call("PATCH", path, json={"name": "better"})
    assert (renamed.json()["name"], renamed.json()["locked"]) == ("better", False)
    taken = await house.call("PATCH", path, json={"name": "other"})
    assert (taken.status_code, taken.json()["field"]) == (409, "name")
    locked = await house.call("PATCH", path, json={"locked": True})
    assert (locked.json()["name"], locked.json()["locked"]) == ("better", True)
    refused = await house.call("DELETE", path)
    assert (refused.status_code, refused.json()["code"]) == (409, "image_locked")
    await house.call("PATCH", path, json={"locked": False})
    assert (await house.call("DELETE", path)).status_code == 204


async def test_a_deleted_image_is_gone_from_lists_and_unwanted_on_hosts(house: House) -> None:
    image = await ready(house)
    assert (await house.call("DELETE", f"/api/v1/images/{image['id']}")).status_code == 204
    assert (await house.call("GET", f"/api/v1/images/{image['id']}")).status_code == 404
    assert (await house.call("DELETE", f"/api/v1/images/{image['id']}")).status_code == 404
    assert await house.names(tab="mine") == []
    # At once, long before the next round.
    told = await house.told(lambda w: image["address"] in w.unwanted)
    assert [i.recipe for i in told.images] == ["minimal", "jupyter"]
    await ready(house)


async def test_a_save_that_ends_after_its_image_was_deleted_leaves_it_deleted(house: House) -> None:
    image = await house.saving()
    await house.call("DELETE", f"/api/v1/images/{image['id']}")
    await house.say(saved(image))
    assert (await house.call("GET", f"/api/v1/images/{image['id']}")).status_code == 404


async def test_what_was_deleted_long_ago_is_told_no_more(open_house: Opener) -> None:
    async with open_house(resend_s=0.05) as house:
        old, new = await house.saving("old"), await house.saving("new")
        for image in (old, new):
            await house.call("DELETE", f"/api/v1/images/{image['id']}")
        await house.execute(
            "UPDATE images SET deleted_at = now() - interval '31 days' WHERE id = :id", id=old["id"]
        )
        await house.told(lambda w: w.unwanted == [new["address"]])


async def test_a_stranger_finds_and_changes_nothing(house: House) -> None:
    path = f"/api/v1/images/{(await ready(house))['id']}"
    system = f"/api/v1/images/{(await house.system())['id']}"
    stranger = new_id()
    for method in ("GET", "PATCH", "DELETE"):
        body: Json = {"json": {"name": "x"}} if method == "PATCH" else {}
        assert (await house.call(method, path, as_=stranger, **body)).status_code == 404
        if method != "GET":
            assert (await house.call(method, system, **body)).status_code == 404
    listed = (await house.call("GET", "/api/v1/images", as_=stranger)).json()
    assert {i["kind"] for i in listed["items"]} == {"system"}


async def test_a_pending_account_browses_and_does_nothing_else(house: House) -> None:
    headers = house.headers(status=AccountStatus.pending)
    assert (await house.http.get("/api/v1/images", headers=headers)).json()["total"] == 2
    refused = await house.http.patch(
        f"/api/v1/images/{new_id()}", json={"locked": True}, headers=headers
    )
    assert refused.json()["code"] == "awaiting_approval"


async def test_lists_are_narrowed_and_paged(house: House) -> None:
    jupyter = await house.system("jupyter")
    await ready(house, "lung_100%", source_image_id=jupyter["id"])
    await house.saving("brain")
    assert await house.names() == ["minimal", "jupyter", "brain", "lung_100%"]
    assert await house.names(tab="mine") == ["brain", "lung_100%"]
    assert await house.names(name="G_100%") == ["lung_100%"]
    assert await house.names(framework="jupyterlab") == ["jupyter", "lung_100%"]
    assert await house.names(cuda="12") == ["jupyter", "lung_100%"]
    assert await house.names(cuda="12.4", tab="system") == ["jupyter"]
    assert await house.names(python="3.1") == []
    assert await house.names(status="ready") == ["lung_100%"]
    page = await house.get("/images", size=1, page=3)
    assert ([i["name"] for i in page["items"]], page["total"]) == (["brain"], 4)


@pytest.mark.parametrize(
    "body",
    [
        {"name": ""},
        {"name": "a\x00b"},
        {"name": "a\u200bb"},
        {"name": "x" * 65},
        {"name": 7},
        {"locked": "maybe"},
        {"owner_id": "me"},
    ],
)
async def test_bad_input_is_refused_by_its_field(house: House, body: Json) -> None:
    image = await house.saving()
    answer = await house.call("PATCH", f"/api/v1/images/{image['id']}", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, next(iter(body)))


async def test_odd_bytes_in_names_and_filters_never_break_anything(house: House) -> None:
    image = await house.saving()
    path = f"/api/v1/images/{image['id']}"
    headers = {**house.headers(), "content-type": "application/json"}
    lone = await house.http.patch(path, content=rb'{"name": "\ud800"}', headers=headers)
    assert lone.status_code == 422
    for query in ("name=%00", "name=%ff", "cuda=%ed%a0%80", "tab=none", "status=x", "page=0"):
        answer = await house.call("GET", f"/api/v1/images?{query}")
        assert answer.status_code in (200, 422), query
