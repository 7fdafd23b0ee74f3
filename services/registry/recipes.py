"""Reads the recipes of system images. Refuses what it does not understand."""

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

FILE = "recipe.toml"

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Version = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$")]
Words = Annotated[str, StringConstraints(max_length=64)]


class RecipesError(ValueError):
    """The file and what to change in it."""


class App(BaseModel):
    """path: below the instance's own door."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    path: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-][A-Za-z0-9_./-]*$")]


class Recipe(BaseModel):
    """name: of its folder, too. base: the recipe whose image it stands on.
    cuda: empty for an image without it. order: in lists, and of building."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    version: Version
    order: int = Field(ge=0, le=10_000)
    base: Name | None = None
    framework: Words
    framework_version: Words
    python: Words
    cuda: Words
    apps: list[App] = []


def read_recipes(folder: Path) -> list[Recipe]:
    """In their order. Blocking. Raises RecipesError, which names the file and the field."""
    if not folder.is_dir():
        raise RecipesError(f"{folder} is not a folder: create it or unset recipes")
    recipes = [_read(path) for path in sorted(folder.glob(f"*/{FILE}"))]
    order = {recipe.name: recipe.order for recipe in recipes}
    for recipe in recipes:
        if recipe.base is not None and order.get(recipe.base, recipe.order) >= recipe.order:
            raise RecipesError(
                f"{folder / recipe.name / FILE}: base {recipe.base!r} must be a recipe"
                " with a smaller order"
            )
    return sorted(recipes, key=lambda recipe: (recipe.order, recipe.name))


def _read(path: Path) -> Recipe:
    try:
        recipe = Recipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise RecipesError(f"{path}: {found}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipesError(f"{path}: {error}") from error
    if recipe.name != path.parent.name:
        raise RecipesError(f"{path}: name must be that of its folder, {path.parent.name!r}")
    return recipe
