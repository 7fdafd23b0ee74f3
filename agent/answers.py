"""Docker's ways to fail, as the engine's own; of the image registry behind it too."""

import contextlib
import re
from collections.abc import Iterator

import aiodocker
import aiohttp

from agent.engine import (
    EngineRefused,
    EngineUnavailable,
    ImageMissing,
    NameTaken,
    RegistryAway,
    RegistryRefused,
)

# What aiodocker calls a connection that was refused, or cut before the answer.
NO_CONNECTION = 900
# Docker passes on what the registry, the network or TLS said, in words alone.
_NOT_THERE = re.compile(r"manifest unknown|name unknown|not found: |repository does not exist")
_NOT_HERE = re.compile(r"image does not exist locally|No such image")
_UNTRUSTED = re.compile(r"x509:|certificate")
_NOT_ALLOWED = re.compile(
    r"unauthorized|no basic auth credentials|denied|\b40[13]\b|Unauthorized|Forbidden"
)
_AWAY = re.compile(
    r"dial tcp|connection refused|connection reset|no such host|i/o timeout|TLS handshake"
    r"|Client\.Timeout|deadline exceeded|unexpected EOF|EOF$|broken pipe|no route to host"
    r"|network is unreachable|server misbehaving|toomanyrequests|\b429\b|\b5\d\d\b"
    r"|HTTP response to HTTPS client|blob upload (unknown|invalid)"
)


@contextlib.contextmanager
def answers() -> Iterator[None]:
    """Turns every way in which a call may fail into one of the engine's own."""
    try:
        yield
    except aiodocker.DockerError as error:
        if error.status == NO_CONNECTION:
            raise EngineUnavailable(error.message) from error
        if error.status == 304:
            return
        if error.status == 404:
            raise ImageMissing(error.message) from error
        if error.status == 409:
            raise NameTaken(error.message) from error
        raise EngineRefused(error.message) from error
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise EngineUnavailable(f"Docker does not answer: {error!r}") from error


@contextlib.contextmanager
def registry_answers(image: str) -> Iterator[None]:
    """As `answers`, where the engine speaks with a registry about `image`."""
    try:
        yield
    except aiodocker.DockerError as error:
        if error.status == NO_CONNECTION:
            raise EngineUnavailable(error.message) from error
        raise registry_error(image, error.message) from error
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise EngineUnavailable(f"Docker does not answer: {error!r}") from error


def registry_error(image: str, said: str) -> EngineUnavailable | EngineRefused:
    """The first that fits: a refusal may name a port, a missing image a status."""
    host = image.partition("/")[0]
    if _NOT_HERE.search(said):
        return ImageMissing(f"{image} is not on this host: {said}")
    if _NOT_THERE.search(said):
        return ImageMissing(f"the registry has no {image}: it was deleted or never came there")
    if _UNTRUSTED.search(said):
        return RegistryRefused(
            f"Docker does not trust the certificate of {host}: put its CA into"
            f" /etc/docker/certs.d/{host}/ca.crt ({said})"
        )
    if _AWAY.search(said) and not _NOT_ALLOWED.search(said):
        return RegistryAway(f"waiting for the registry {host}: {said}")
    if _NOT_ALLOWED.search(said):
        return RegistryRefused(
            f"the registry {host} does not allow this host {image}: see `chusuan nodes list`,"
            f" and join again if the node was revoked ({said})"
        )
    return EngineRefused(said)
