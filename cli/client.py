"""Calls to the gateway: tokens, refresh, retries of lost connections, problems as exceptions.

ClientError             what the person reads; the command ends with code 1
├── Refused             the platform answered with a problem document
├── Unreachable         no answer
└── Trouble             something here is wrong: an argument, a file
"""

import os
import ssl
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx

from cli.session import Login, SessionStore
from shared.text import Language, Text

Json = dict[str, Any]
Body = Callable[[], Iterator[bytes]]

DEFAULT_URL = "http://127.0.0.1:8080"
TIMEOUT = httpx.Timeout(60.0, connect=5.0)
PAUSES_S: Sequence[float] = (0.2, 0.8, 2.0)
REFRESH_BEFORE_S = 30
PAGE_SIZE = 200
SAFE_METHODS = frozenset({"GET", "HEAD"})


class ClientError(Exception):
    def lines(self, language: Language) -> list[str]:
        """First the title, then what to do."""
        raise NotImplementedError


class Refused(ClientError):
    def __init__(self, status: int, problem: Json) -> None:
        super().__init__(f"{status} {problem.get('code', '')}")
        self.status = status
        self.problem = problem
        self.code = str(problem.get("code", ""))

    def lines(self, language: Language) -> list[str]:
        problem = self.problem
        found = [str(problem.get("title") or f"HTTP {self.status}")]
        if problem.get("detail"):
            found.append(str(problem["detail"]))
        errors = problem.get("errors")
        if isinstance(errors, list):
            found += [f"  {e.get('field')}: {e.get('message')}" for e in errors]
        elif problem.get("field"):
            found.append(Text("字段：{f}", "field: {f}").render(language, f=problem["field"]))
        if self.status >= 500 and problem.get("request_id"):
            found.append(f"request_id: {problem['request_id']}")
        return found


class Trouble(ClientError):
    def __init__(self, zh: str, en: str) -> None:
        super().__init__(en)
        self._text = (zh, en)

    def lines(self, language: Language) -> list[str]:
        return [self._text[0] if language == "zh" else self._text[1]]


class NotLoggedIn(Trouble):
    def __init__(self) -> None:
        super().__init__(
            "尚未登录或登录已失效，请运行 chusuan login。",
            "You are not logged in, or the login has ended. Run: chusuan login",
        )


class Unreachable(Trouble):
    def __init__(self, url: str, error: Exception) -> None:
        super().__init__(
            f"无法连接 {url}（{error}）。请检查 --url 或 CHUSUAN_URL，以及平台是否在运行。",
            f"No answer from {url} ({error}). Check --url or CHUSUAN_URL, and that it runs.",
        )


class Gateway:
    """pauses_s: how long to wait before each further try after a lost connection."""

    def __init__(
        self,
        url: str,
        language: Language,
        store: SessionStore,
        *,
        pauses_s: Sequence[float] = PAUSES_S,
    ) -> None:
        self.url = url.rstrip("/")
        self.store = store
        self._pauses_s = pauses_s
        loopback = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
        # A platform's own CA counts on this machine too, where no environment is asked for proxies.
        authorities = os.environ.get("SSL_CERT_FILE")
        self._http = httpx.Client(
            base_url=self.url,
            verify=ssl.create_default_context(cafile=authorities) if authorities else True,
            timeout=TIMEOUT,
            trust_env=not loopback,
            headers={"accept-language": "zh-CN" if language == "zh" else "en"},
        )

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, /, **parameters: Any) -> Json:
        return self.call("GET", path, params=parameters)

    def post(self, path: str, body: Json | None = None) -> Json:
        return self.call("POST", path, json=body or {})

    def create(self, path: str, body: Json) -> Json:
        """A POST whose effect happens once, however often the connection is lost."""
        key = {"idempotency-key": str(uuid.uuid4())}
        return self.call("POST", path, json=body, headers=key)

    def items(self, path: str, /, *, limit: int | None = None, **parameters: Any) -> list[Json]:
        """Every item of every page, or the first `limit`."""
        size = min(PAGE_SIZE, limit or PAGE_SIZE)
        found: list[Json] = []
        page = 1
        while True:
            answer = self.get(path, **parameters, page=page, size=size)
            items = answer["items"]
            found += items
            if limit is not None and len(found) >= limit:
                return found[:limit]
            if not items or len(found) >= answer["total"]:
                return found
            page += 1

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Json | None = None,
        headers: Mapping[str, str] | None = None,
        public: bool = False,
    ) -> Json:
        """Raises Refused, Unreachable, NotLoggedIn. An answer without a body is {}."""

        def send(extra: Mapping[str, str]) -> httpx.Response:
            return self._send(method, path, params, json, {**(headers or {}), **extra})

        if public:
            response = send({})
        else:
            response = send(self._bearer())
            if response.status_code == 401:
                response = send(self._bearer(rejected=response))
        return _checked(response)

    def upload(self, path: str, params: Mapping[str, Any], size: int, body: Body) -> Json:
        """body: called for each try, so that it can start over after a refresh."""

        def send(extra: Mapping[str, str]) -> httpx.Response:
            headers = {"content-length": str(size), **extra}
            try:
                return self._http.put(
                    f"/api/v1{path}", params=dict(params), content=body(), headers=headers
                )
            except httpx.HTTPError as error:
                raise Unreachable(self.url, error) from error

        response = send(self._bearer())
        if response.status_code == 401:
            response = send(self._bearer(rejected=response))
        return _checked(response)

    @contextmanager
    def download(
        self, path: str, params: Mapping[str, Any], headers: Mapping[str, str]
    ) -> Iterator[httpx.Response]:
        """The open answer; httpx.TransportError may rise while it is read."""
        for last in (False, True):
            with self._http.stream(
                "GET",
                f"/api/v1{path}",
                params=dict(params),
                headers={"accept-encoding": "identity", **headers, **self._bearer()},
            ) as response:
                if response.status_code == 401 and not last:
                    self._bearer(rejected=response)
                    continue
                if not response.is_success:
                    response.read()
                    _checked(response)
                yield response
                return

    def log_in(self, username: str, password: str) -> Json:
        body = {"username": username, "password": password}
        answer = self.call("POST", "/sessions", json=body, public=True)
        self._keep(answer)
        return answer

    def log_out(self) -> None:
        """Forgets the tokens here even when the platform no longer knows them."""
        try:
            self.call("DELETE", "/sessions/current")
        except (NotLoggedIn, Refused):
            pass
        finally:
            self.store.forget(self.url)

    def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        json: Json | None,
        headers: Mapping[str, str],
    ) -> httpx.Response:
        known = {k: v for k, v in (params or {}).items() if v is not None}
        repeatable = method in SAFE_METHODS or "idempotency-key" in headers
        for pause_s in (*self._pauses_s, None):
            try:
                return self._http.request(
                    method, f"/api/v1{path}", params=known, json=json, headers=headers
                )
            except httpx.HTTPError as error:
                # Where no connection came about, nothing was asked: always safe to repeat.
                harmless = repeatable or isinstance(error, httpx.ConnectTimeout)
                if pause_s is None or not harmless or isinstance(error, httpx.ConnectError):
                    raise Unreachable(self.url, error) from error
                time.sleep(pause_s)
        raise AssertionError

    def _bearer(self, rejected: httpx.Response | None = None) -> dict[str, str]:
        """rejected: the 401 to a call with the token we have: it must be a newer one."""
        login = self.store.load(self.url)
        if login is None:
            raise NotLoggedIn
        if rejected is not None or login.expires_at - REFRESH_BEFORE_S < time.time():
            used = f"Bearer {login.access_token}"
            if rejected is not None:
                used = rejected.request.headers.get("authorization", used)
            login = self._refreshed(used)
        return {"authorization": f"Bearer {login.access_token}"}

    def _refreshed(self, used: str) -> Login:
        with self.store.refreshing():
            login = self.store.load(self.url)
            if login is None:
                raise NotLoggedIn
            if f"Bearer {login.access_token}" != used:
                return login  # another command was quicker
            body = {"refresh_token": login.refresh_token}
            try:
                return self._keep(self.call("POST", "/sessions/refresh", json=body, public=True))
            except Refused as refusal:
                if refusal.status not in (400, 401, 403, 404, 422):
                    raise
                self.store.forget(self.url)
                raise NotLoggedIn from refusal

    def _keep(self, answer: Json) -> Login:
        login = Login(
            username=answer["account"]["username"],
            access_token=answer["access_token"],
            refresh_token=answer["refresh_token"],
            expires_at=time.time() + answer["expires_in"],
        )
        self.store.save(self.url, login)
        return login


def _checked(response: httpx.Response) -> Json:
    if response.is_success:
        answer: Json = response.json() if response.content else {}
        return answer
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    problem.setdefault("title", f"HTTP {response.status_code} {response.reason_phrase}")
    raise Refused(response.status_code, problem)
