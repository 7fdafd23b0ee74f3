"""States, addresses and words of images, and the recipes they come from."""

from pathlib import Path

import pytest

from services.registry.domain.states import (
    TRANSITIONS,
    IllegalTransition,
    Kind,
    State,
    diagram,
    may_move,
    require_move,
)
from services.registry.domain.words import (
    MESSAGE_LENGTH,
    readable,
    saved_address,
    share,
    system_address,
)
from services.registry.recipes import RecipesError, read_recipes
from shared.ids import new_id

LEGAL = {
    ("system", "building", "ready"),
    ("system", "building", "failed"),
    ("system", "ready", "building"),
    ("system", "ready", "failed"),
    ("system", "failed", "building"),
    ("system", "failed", "ready"),
    ("saved", "building", "ready"),
    ("saved", "building", "failed"),
    ("saved", "failed", "ready"),
}
README = Path("services/registry/README.md")
HOUSE = Path("deploy/images")


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("source", State)
@pytest.mark.parametrize("target", State)
def test_every_pair_of_states_is_either_listed_or_refused_with_both_named(
    kind: Kind, source: State, target: State
) -> None:
    if (kind.value, source.value, target.value) in LEGAL:
        return require_move(kind, source, target)
    assert not may_move(kind, source, target)
    with pytest.raises(IllegalTransition, match=f"{source.value} → {target.value}"):
        require_move(kind, source, target)
    return None


def test_every_state_of_every_kind_has_a_row() -> None:
    assert {kind: set(table) for kind, table in TRANSITIONS.items()} == {
        kind: set(State) for kind in Kind
    }


def test_the_readme_shows_the_table() -> None:
    assert f"```mermaid\n{diagram()}\n```" in README.read_text()


def test_two_images_of_one_owner_never_share_an_address() -> None:
    owner, first, second = new_id(), new_id(), new_id()
    one, other = (saved_address(owner, image, registry="") for image in (first, second))
    assert one != other


def test_an_address_begins_with_its_registry_where_there_is_one() -> None:
    owner, image = new_id(), new_id()
    plain = saved_address(owner, image, registry="")
    assert saved_address(owner, image, registry="oci:5443") == f"oci:5443/{plain}"
    assert system_address("minimal", "1", registry="oci:5443") == "oci:5443/chusuan/minimal:1"


def test_words_of_a_build_become_one_short_line_that_can_be_stored() -> None:
    assert readable("Step 1\n\x1b[91merror\x00 here\r\n") == "Step 1 [91merror here"
    assert readable("x" * 1000 + " the end").endswith("the end")
    assert len(readable("x" * 1000)) == MESSAGE_LENGTH


@pytest.mark.parametrize(
    ("said", "kept"), [(0.25, 0.25), (-1.0, 0.0), (7.0, 1.0), (float("nan"), None)]
)
def test_progress_is_a_share_or_nothing(said: float, kept: float | None) -> None:
    assert share(said) == kept


RECIPE = """
name = "{name}"
version = "1"
order = {order}
framework = "Debian"
framework_version = "12"
python = "3.11"
cuda = ""
{more}
"""


def write(folder: Path, name: str, order: int = 1, more: str = "", folder_name: str = "") -> None:
    target = folder / (folder_name or name)
    target.mkdir()
    (target / "recipe.toml").write_text(RECIPE.format(name=name, order=order, more=more))


def test_recipes_come_in_their_order(tmp_path: Path) -> None:
    write(tmp_path, "b-second", 2, 'base = "a-first"\napps = [{name = "lab", path = "lab"}]')
    write(tmp_path, "a-first", 1)
    (tmp_path / "not-a-recipe").mkdir()
    found = read_recipes(tmp_path)
    assert [r.name for r in found] == ["a-first", "b-second"]
    assert [(a.name, a.path) for a in found[1].apps] == [("lab", "lab")]


@pytest.mark.parametrize(
    ("more", "cure"),
    [
        ("colour = 1", "colour"),
        ('apps = [{name = "lab", path = "/lab"}]', "apps.0.path"),
        ('base = "nowhere-to-be-found"', "smaller order|base"),
    ],
)
def test_a_recipe_that_is_not_understood_is_refused_with_its_file(
    tmp_path: Path, more: str, cure: str
) -> None:
    write(tmp_path, "one", 1, more)
    with pytest.raises(RecipesError, match=rf"one/recipe\.toml: .*({cure})"):
        read_recipes(tmp_path)


def test_a_recipe_is_named_as_its_folder_is(tmp_path: Path) -> None:
    write(tmp_path, "one", folder_name="two")
    with pytest.raises(RecipesError, match="that of its folder"):
        read_recipes(tmp_path)


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipesError, match="is not a folder"):
        read_recipes(tmp_path / "none")


def test_the_recipes_of_the_house_are_understood() -> None:
    found = {recipe.name: [app.path for app in recipe.apps] for recipe in read_recipes(HOUSE)}
    assert found == {"minimal": [], "jupyter": ["lab", "tensorboard/"], "vscode": ["vscode/"]}
    assert next(iter(found)) == "minimal"
