"""System images come from recipes, are wanted of builders, and follow what those report."""

from pathlib import Path

from services.registry.domain.words import MESSAGE_LENGTH
from tests.service.registry.conftest import RECIPES, House, Opener, write_recipes


async def test_recipes_are_the_system_images_in_their_order(house: House) -> None:
    page = await house.get("/images", tab="system")
    assert [i["name"] for i in page["items"]] == ["minimal", "jupyter"]
    jupyter = page["items"][1]
    assert jupyter["apps"] == [
        {"name": "jupyterlab", "path": "lab"},
        {"name": "tensorboard", "path": "tensorboard/"},
    ]
    shown = {k: jupyter[k] for k in ("kind", "address", "status", "locked", "creator", "cuda")}
    assert shown == {
        "kind": "system",
        "address": "chusuan/jupyter:1",
        "status": "building",
        "locked": True,
        "creator": "chusuan",
        "cuda": "12.4",
    }


async def test_builders_are_told_all_of_them_with_what_they_stand_on(open_house: Opener) -> None:
    async with open_house(resend_s=0.05) as house:
        wanted = (await house.told(lambda w: bool(w.images))).images
    assert [(i.recipe, i.reference, i.arguments) for i in wanted] == [
        ("minimal", "chusuan/minimal:1", {}),
        ("jupyter", "chusuan/jupyter:1", {"BASE": "chusuan/minimal:1"}),
    ]


async def test_an_image_follows_its_builder(house: House) -> None:
    image = await house.system()
    building = await house.report(image, "building", progress=0.4, message="Step 2/5 : RUN")
    assert (building["status"], building["progress"]) == ("building", 0.4)
    assert building["message"] == "Step 2/5 : RUN"
    failed = await house.report(image, "failed", message="E: no network\x00\n" + "!" * 1000)
    assert (failed["status"], failed["progress"]) == ("failed", None)
    assert len(failed["message"]) == MESSAGE_LENGTH
    again = await house.report(image, "building", progress=0.1)
    assert (again["status"], again["message"]) == ("building", None)
    ready = await house.report(image, "ready", digest="sha256:1", size_bytes=5 << 30)
    assert (ready["status"], ready["digest"], ready["size_bytes"]) == ("ready", "sha256:1", 5 << 30)
    lost = await house.report(image, "building", progress=0.0)
    assert lost["status"] == "building"


async def test_the_size_of_what_its_builder_only_found_is_unknown_not_nothing(
    house: House,
) -> None:
    image = await house.system()
    found = await house.report(image, "ready", digest="sha256:1", size_bytes=0)
    assert (found["status"], found["size_bytes"]) == ("ready", None)
    fetched = await house.report(image, "ready", digest="sha256:1", size_bytes=5)
    again = await house.report(image, "ready", digest="sha256:1", size_bytes=0)
    assert (fetched["size_bytes"], again["size_bytes"]) == (5, 5)


async def test_a_restart_keeps_what_is_ready_and_takes_up_what_a_recipe_says_now(
    open_house: Opener, tmp_path: Path
) -> None:
    async with open_house() as house:
        image = await house.system("jupyter")
        await house.report(image, "ready", digest="sha256:1", size_bytes=1)
    changed = RECIPES["jupyter"].replace('cuda = "12.4"', 'cuda = "12.8"')
    write_recipes(tmp_path / "recipes", {"jupyter": changed})
    async with open_house() as house:
        again = await house.system("jupyter")
    assert (again["id"], again["status"], again["cuda"]) == (image["id"], "ready", "12.8")


async def test_a_new_version_is_a_new_image_and_the_old_one_is_listed_no_more(
    open_house: Opener, tmp_path: Path
) -> None:
    async with open_house() as house:
        old = await house.system()
        await house.report(old, "ready", digest="sha256:1", size_bytes=1)
    changed = RECIPES["minimal"].replace('version = "1"', 'version = "2"')
    write_recipes(tmp_path / "recipes", {"minimal": changed})
    async with open_house(resend_s=0.05) as house:
        new = await house.system()
        assert new["id"] != old["id"]
        assert (new["address"], new["status"]) == ("chusuan/minimal:2", "building")
        wanted = await house.told(lambda w: True)
        assert [i.reference for i in wanted.images] == ["chusuan/minimal:2", "chusuan/jupyter:1"]
        assert wanted.images[1].arguments == {"BASE": "chusuan/minimal:2"}
        assert wanted.unwanted == []


async def test_an_image_that_nobody_builds_fails_and_revives_with_the_first_report(
    open_house: Opener,
) -> None:
    async with open_house(build_silence_s=0.2) as house:
        image = await house.system()
        silent = await house.until(image, "failed")
        assert "agent" in silent["message"]
        assert (await house.report(image, "ready", digest="d", size_bytes=1))["status"] == "ready"


async def test_a_report_of_a_persons_image_changes_nothing(house: House) -> None:
    mine = await house.saving()
    assert (await house.report(mine, "ready", digest="d", size_bytes=1))["status"] == "building"
