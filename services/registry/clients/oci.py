"""The OCI registry, where what is deleted here must go too."""

from dataclasses import dataclass, field
from typing import Protocol

import httpx
from pydantic import SecretStr

from shared.errors import Unavailable

MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)


class OciClient(Protocol):
    async def delete(self, repository: str, tag: str) -> None:
        """The manifest under that tag; one that is not there is gone. Raises Unavailable."""
        ...


class HttpOci:
    def __init__(self, http: httpx.AsyncClient, credentials: SecretStr | None) -> None:
        self._http = http
        self._auth: httpx.BasicAuth | None = None
        if credentials is not None:
            user, _, password = credentials.get_secret_value().partition(":")
            self._auth = httpx.BasicAuth(user, password)

    async def delete(self, repository: str, tag: str) -> None:
        manifests = f"/v2/{repository}/manifests"
        digest = (await self._call("HEAD", f"{manifests}/{tag}")).headers.get(
            "docker-content-digest"
        )
        if digest is not None:
            await self._call("DELETE", f"{manifests}/{digest}")

    async def _call(self, method: str, path: str) -> httpx.Response:
        auth = self._auth if self._auth is not None else httpx.USE_CLIENT_DEFAULT
        headers = {"accept": ", ".join(MANIFESTS)}
        try:
            response = await self._http.request(method, path, headers=headers, auth=auth)
        except httpx.HTTPError as error:
            raise Unavailable from error
        if response.status_code // 100 != 2 and response.status_code != 404:
            raise Unavailable
        return response


@dataclass
class FakeOci:
    deleted: list[tuple[str, str]] = field(default_factory=list)

    async def delete(self, repository: str, tag: str) -> None:
        self.deleted.append((repository, tag))
