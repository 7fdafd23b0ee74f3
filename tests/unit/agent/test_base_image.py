"""Where Debian comes from: what is there, else a registry that answers, else Debian's packages."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO

import pytest

from agent.base import OWN, BaseImage
from agent.engine import CommittedImage, EngineRefused, Progress

NAME = "debian:bookworm-slim"


@dataclass
class FakeImages:
    """An engine that has `there`. pulls: what its registry does: gives, refuses or is mute."""

    there: set[str]
    pulls: str
    pulled: list[str] = field(default_factory=list)

    async def image(self, reference: str) -> CommittedImage | None:
        return CommittedImage("sha256:1", 1) if reference in self.there else None

    async def pull(self, image: str, progress: Progress) -> None:
        self.pulled.append(image)
        if self.pulls == "mute":
            await asyncio.Event().wait()
        if self.pulls == "refuses":
            raise EngineRefused("no such host")
        progress(0.5, "Downloading")
        self.there.add(image)

    async def push(self, reference: str, progress: Progress) -> CommittedImage:
        raise AssertionError("nothing is pushed here")

    async def registry_digest(self, reference: str) -> str | None:
        return None

    async def build(
        self,
        context: IO[bytes],
        reference: str,
        arguments: Mapping[str, str],
        *,
        network: str,
        progress: Progress,
    ) -> CommittedImage:
        raise AssertionError("nothing is built here")

    async def references(self, pattern: str) -> list[str]:
        return []

    async def untag(self, reference: str) -> None:
        self.there.discard(reference)


def say(share: float | None, words: str) -> None:
    pass


@pytest.mark.parametrize("there", [NAME, OWN])
async def test_what_is_there_is_used_without_asking_a_registry(there: str) -> None:
    images = FakeImages({there}, "mute")
    assert await BaseImage(images, NAME).ensure(say) == there
    assert images.pulled == []


async def test_a_registry_that_answers_is_used() -> None:
    assert await BaseImage(FakeImages(set(), "gives"), NAME).ensure(say) == NAME


@pytest.mark.parametrize("registry", ["mute", "refuses"])
async def test_a_registry_that_does_not_answer_is_given_up_quickly(
    registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    images = FakeImages(set(), registry)
    with pytest.raises(EngineRefused, match=f"docker pull {NAME}"):
        await BaseImage(images, NAME, first_answer_s=0.05).ensure(say)
