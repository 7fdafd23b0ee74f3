"""A careful client: it makes its key before the first try, stores it, and sends until it is
answered. The platform may die meanwhile."""

from dataclasses import dataclass
from typing import Any

import httpx

from shared.ids import new_id
from tests.e2e.people import Json
from tests.e2e.waiting import until
from tests.fault.history import History, Note, end

PATIENCE_S = 120.0


class Refused(AssertionError):
    """Answered with a 4xx."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(f"{response.request.method} {response.url}: {response.text}")
        self.status = response.status_code

    def must_be(self, status: int) -> None:
        """What an earlier try's success looks like to the next one; anything else is raised."""
        if self.status != status:
            raise self


@dataclass
class Stubborn:
    """name, password: it logs in by itself, again and again where its token ends; without a name
    it is nobody."""

    url: str
    name: str
    password: str
    history: History
    http: httpx.AsyncClient
    token: str = ""

    @classmethod
    def at(cls, url: str, name: str, password: str, history: History | None = None) -> "Stubborn":
        http = httpx.AsyncClient(base_url=f"{url}/api/v1", trust_env=False, timeout=30)
        return cls(url, name, password, history or History(), http)

    async def get(self, path: str, /, **parameters: Any) -> Json:
        found: Json = await self.send("GET", path, params=parameters)
        return found

    async def post(self, path: str, body: Json | None = None, *, key: str | None = None) -> Json:
        found: Json = await self.send("POST", path, json=body or {}, key=key or str(new_id()))
        return found

    async def send(
        self, method: str, path: str, *, key: str = "", note: Note | None = None, **more: Any
    ) -> Any:
        """The answer's document, once there is one. Raises Refused. note: every try is a call of
        the history."""
        answers: list[httpx.Response] = []

        async def answered() -> bool:
            if self.name and not self.token and not await self._log_in():
                return False
            headers = {"authorization": f"Bearer {self.token}"} if self.name else {}
            if key:
                headers["idempotency-key"] = key
            call = note and self.history.begin(self.name, note.what, key=note.key, value=note.value)
            try:
                response = await self.http.request(method, path, headers=headers, **more)
            except httpx.TransportError:
                return False
            if response.status_code == 401:
                self.token = ""
            if response.status_code in (401, 429):
                if call:
                    end(call, "failed")
                return False
            if response.status_code >= 500:
                return False
            if call:
                end(call, "ok" if response.is_success else "failed", response.text)
            answers.append(response)
            return True

        await until(answered, timeout_s=PATIENCE_S, what=f"{method} {path} is answered")
        response = answers[0]
        if not response.is_success:
            raise Refused(response)
        is_json = response.headers.get("content-type", "").startswith("application/json")
        return response.json() if is_json and response.content else response.content

    async def _log_in(self) -> bool:
        body = {"username": self.name, "password": self.password}
        try:
            response = await self.http.post("/sessions", json=body)
        except httpx.TransportError:
            return False
        if response.status_code >= 500 or response.status_code == 429:
            return False
        if not response.is_success:
            raise Refused(response)
        self.token = response.json()["access_token"]
        return True

    async def arrives(self, path: str, *statuses: str, within_s: float = PATIENCE_S) -> Json:
        """What is at this path, once it is in one of these states."""
        found: Json = {}

        async def arrived() -> bool:
            found.clear()
            found.update(await self.get(path))
            return found["status"] in statuses

        try:
            await until(arrived, timeout_s=within_s, what=f"{path} becomes {statuses}")
        except TimeoutError as late:
            raise TimeoutError(f"{late}; it is {found}") from None
        return found

    async def close(self) -> None:
        await self.http.aclose()
