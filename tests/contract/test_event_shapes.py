"""Whoever could read an event yesterday can read it today."""

import json
from typing import ClassVar, Literal

import pytest
from pydantic import BaseModel

from shared.events import Payload
from shared.events.catalogue import Kind, kinds
from tests.contract.event_shapes import FOLDER, breaks, shape_of


class Part(BaseModel):
    size: int


class Told(Payload):
    type: ClassVar[str] = "test.thing.told"
    name: str
    kind: Literal["a", "b"]
    parts: list[Part]


RECORDED = shape_of(Told)


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.name)
def test_an_event_is_on_record_and_has_not_changed_for_its_readers(kind: Kind) -> None:
    file = FOLDER / f"{kind.name}.json"
    assert file.exists(), "put it on record: python -m tests.contract.event_shapes"
    found = list(breaks(json.loads(file.read_text()), shape_of(kind.payload)))
    assert found == [], "a change that breaks a reader is a new version beside the old"


def test_no_event_on_record_has_vanished() -> None:
    assert {file.stem for file in FOLDER.glob("*.json")} <= {kind.name for kind in kinds()}


def test_a_field_that_comes_with_a_default_breaks_nobody() -> None:
    class Wider(Part):
        colour: str = "red"

    class More(Told):
        parts: list[Wider]  # type: ignore[assignment]  # as a later day's class would have it
        note: str = ""

    assert list(breaks(RECORDED, shape_of(More))) == []


def test_a_field_that_comes_without_a_default_is_caught() -> None:
    class More(Told):
        note: str

    assert list(breaks(RECORDED, shape_of(More))) == ["note came without one"]


def test_a_field_that_goes_is_caught() -> None:
    class Less(Payload):
        name: str
        kind: Literal["a", "b"]

    assert list(breaks(RECORDED, shape_of(Less))) == ["parts is gone"]


def test_a_field_that_changes_is_caught_however_deep() -> None:
    class Text(BaseModel):
        size: str

    class Changed(Told):
        parts: list[Text]  # type: ignore[assignment]  # that is the change

    class Wider(Told):
        kind: Literal["a", "b", "c"]  # type: ignore[assignment]  # that is the change

    class Optional(Told):
        name: str = ""

    assert list(breaks(RECORDED, shape_of(Changed))) == ["parts.size: 'integer' became 'string'"]
    assert list(breaks(RECORDED, shape_of(Wider))) == ["kind: ['a', 'b'] became ['a', 'b', 'c']"]
    assert list(breaks(RECORDED, shape_of(Optional))) != []
