"""The control plane that the fleet meets: real services over a real broker and database, each a
process of its own, as in the split shape; no gateway, no agent of ours."""

import asyncio
import base64
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

import asyncpg
import httpx

from cli.up.postgres import Postgres
from shared.ids import new_id
from tests.broker import Broker
from tests.e2e import stores
from tests.e2e.platform import REPOSITORY, free_port
from tests.e2e.process import Process
from tests.e2e.waiting import until

SERVICES = ("auth", "registry", "market", "scheduler")
CREDIT = "1000000.00"
MIB = 1024
JOINS_AT_ONCE = 8
PEOPLE_AT_ONCE = 4
STARTS_S = 180
ONLINE_S = 900
RECIPE = REPOSITORY / "deploy" / "images" / "minimal"


class Control:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.services = SERVICES
        self.joins_again = 0
        self.credentials: list[dict[str, str]] = []
        self.parts: dict[str, Process] = {}
        self._ports = {name: free_port() for name in (*SERVICES, "redis")}
        self._postgres = Postgres(home / "postgres")
        self._broker = Broker()
        self._redis = stores.redis(home / "redis", self._ports["redis"])
        self._http = httpx.AsyncClient(timeout=60, trust_env=False)
        self._operator = ""
        self._agents: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        shutil.copytree(RECIPE, self.home / "recipes" / "minimal")
        (self.home / "logs").mkdir()
        (self.home / "operator").write_text("fleet-operator")
        await asyncio.gather(self._postgres.start(), self._broker.start(), self._redis.start())
        await asyncio.gather(*(self._serve(name) for name in SERVICES))
        answer = await self._call("auth", "POST", "/api/v1/sessions",
                                  {"username": "admin", "password": "fleet-operator"})  # fmt: skip
        self._operator = answer["access_token"]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._agents is not None and self._agents.returncode is None:
            self._agents.kill()
            await self._agents.wait()
        await asyncio.gather(*(part.kill() for part in self.parts.values()))
        await self._redis.kill()
        await self._broker.close()
        await self._postgres.stop()
        await self._http.aclose()
        if not os.environ.get("KEEP"):
            shutil.rmtree(self.home)

    async def _serve(self, name: str) -> None:
        await self._postgres.create_database(name)
        command = (sys.executable, "-m", "cli.main", "serve", name)
        where = ("--port", str(self._ports[name]))
        self.parts[name] = Process(
            name, (*command, *where), self._environment(name), self.home / "logs"
        )
        await self.parts[name].start()
        await until(partial(self._ready, name), timeout_s=STARTS_S, what=f"{name} is ready")

    def _environment(self, name: str) -> dict[str, str]:
        urls = {f"{n.upper()}_URL": f"http://127.0.0.1:{self._ports[n]}" for n in SERVICES}
        values = urls | {
            "DATABASE_URL": self._postgres.url(name),
            "BUS_URL": self._broker.url,
            "REDIS_URL": f"redis://127.0.0.1:{self._ports['redis']}",
            "SERVICE_SECRET": name,
            "SERVICE_SECRETS": json.dumps({n: n for n in SERVICES}),
            "SIGNING_KEY_FILE": str(self.home / "key.pem"),
            "FIRST_OPERATOR_PASSWORD_FILE": str(self.home / "operator"),
            "RECIPES": str(self.home / "recipes"),
            "BROKER_ADMIN_URL": self._broker.admin_url,
            "BROKER_PUBLIC_URL": self._broker.public_url,
            "PUBLIC_URL": urls["SCHEDULER_URL"],
            "REGISTRATIONS_PER_ADDRESS": "100000",
            "ACCESS_TOKEN_LIVES_S": "3600",
        }
        return {f"CHUSUAN_{key}": value for key, value in values.items()}

    async def _ready(self, name: str) -> bool:
        part = self.parts[name]
        assert part.running is None or part.running.returncode is None, part.log()[-3000:]
        try:
            answer = await self._http.get(f"http://127.0.0.1:{self._ports[name]}/readyz")
        except httpx.TransportError:
            return False
        return answer.status_code == 200

    async def _ask_of(
        self, service: str, method: str, path: str, body: object = None, token: str = ""
    ) -> httpx.Response:
        headers = {"idempotency-key": str(new_id())}
        if token:
            headers["authorization"] = f"Bearer {token}"
        return await self._http.request(
            method, f"http://127.0.0.1:{self._ports[service]}{path}", json=body, headers=headers
        )

    async def _call(
        self, service: str, method: str, path: str, body: object = None, token: str = ""
    ) -> Any:
        answer = await self._ask_of(service, method, path, body, token)
        assert answer.is_success, f"{method} {path}: {answer.text}"
        return answer.json() if answer.content else None

    async def join_all(self, count: int) -> None:
        """Each by an invitation of its own, as hosts do."""
        numbers = iter(range(count))
        joined: dict[int, dict[str, str]] = {}

        async def join() -> None:
            for number in numbers:
                invited = await self._call(
                    "scheduler", "POST", "/api/v1/nodes/invitations",
                    {"name": f"fleet-{number}"}, self._operator,
                )  # fmt: skip
                secret = _secret_of(invited["token"])
                wish = {"secret": secret, "agent_id": str(new_id()), "name": f"fleet-{number}"}
                joined[number] = await self._join(wish | {"region": "fleet"})

        await asyncio.gather(*(join() for _ in range(JOINS_AT_ONCE)))
        self.credentials = [joined[number] for number in range(count)]

    async def _join(self, wish: dict[str, str]) -> dict[str, str]:
        """Again where the platform is busy, as an agent does."""
        while True:
            answer = await self._ask_of("scheduler", "POST", "/api/v1/nodes/join", wish)
            if answer.is_success:
                return dict(answer.json())
            assert answer.status_code == 503, answer.text
            self.joins_again += 1
            await asyncio.sleep(2)

    async def start_agents(self, seed: int) -> None:
        """Returns when every node is online."""
        known = self.home / "credentials.json"
        known.write_text(json.dumps(self.credentials))
        with (self.home / "logs" / "agents.log").open("ab") as log:
            self._agents = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bench.fleet.agents", str(known), str(seed),
                cwd=REPOSITORY, stdin=asyncio.subprocess.PIPE, stdout=log, stderr=log,
            )  # fmt: skip

        async def online() -> bool:
            rows = await self.ask(
                "scheduler", "SELECT count(*) AS n FROM nodes WHERE state = 'online'"
            )
            told = await self.ask("market", "SELECT count(*) AS n FROM hosts")
            return bool(rows[0]["n"] == told[0]["n"] == len(self.credentials))

        await until(online, timeout_s=ONLINE_S, what="all nodes are online")

    async def lose(self, numbers: list[int]) -> None:
        assert self._agents is not None
        assert self._agents.stdin is not None
        self._agents.stdin.write("".join(f"lose {n}\n" for n in numbers).encode())
        await self._agents.stdin.drain()

    async def ready_image(self) -> str:
        async def ready() -> bool:
            return bool(await self.ask("registry", "SELECT 1 FROM images WHERE status = 'ready'"))

        await until(ready, timeout_s=60, what="the image is ready")
        rows = await self.ask("registry", "SELECT id FROM images WHERE status = 'ready'")
        return str(rows[0]["id"])

    async def people(self, count: int) -> list[str]:
        """Tokens of accounts with money."""
        slots = asyncio.Semaphore(PEOPLE_AT_ONCE)

        async def person(number: int) -> str:
            async with slots:
                return await self._person(number)

        return await asyncio.gather(*(person(number) for number in range(count)))

    async def _person(self, number: int) -> str:
        name = f"fleet{number}"
        person = {
            "username": name, "email": f"{name}@example.org", "phone": "13800138000",
            "organisation": "fleet", "purpose": "fleet", "password": f"password-of-{name}",
        }  # fmt: skip
        account = await self._call("auth", "POST", "/api/v1/accounts", person)
        path = f"/api/v1/accounts/{account['id']}/approve"
        await self._call("auth", "POST", path, {}, self._operator)
        credit = {"amount": CREDIT, "note": "fleet"}
        path = f"/api/v1/wallets/{account['id']}/credits"
        await self._call("market", "POST", path, credit, self._operator)
        login = {"username": name, "password": person["password"]}
        return str((await self._call("auth", "POST", "/api/v1/sessions", login))["access_token"])

    async def rent(self, token: str, wish: dict[str, object]) -> str:
        """Empty, or why not now: the code of an answer after which people try again."""
        body = wish | {"billing": "payg"}
        answer = await self._ask_of("scheduler", "POST", "/api/v1/instances", body, token)
        if answer.is_success:
            return ""
        code = str(answer.json().get("code"))
        assert code in ("unavailable", "host_silent", "host_not_offered"), answer.text
        return code

    async def ask(self, database: str, question: str, *values: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(
            host=str(self.home / "postgres" / "run"), user="postgres", database=database
        )
        try:
            return list(await connection.fetch(question, *values))
        finally:
            await connection.close()

    def memory_by_part(self) -> dict[str, float]:
        """MiB that are a process's own or its share of what several have. Without the agents."""
        return {name: sum(map(_pss_mib, pids)) for name, pids in self._pids().items()}

    def memory_mib(self) -> float:
        return sum(self.memory_by_part().values())

    def cpu_seconds(self) -> dict[str, float]:
        """Of all parts, and of the agents."""
        assert self._agents is not None
        pids = self._pids() | {"agents": [self._agents.pid]}
        return {name: sum(map(_cpu_s, each)) for name, each in pids.items()}

    def _pids(self) -> dict[str, list[int]]:
        roots = {name: p.running.pid for name, p in self.parts.items() if p.running is not None}
        roots["postgres"] = self._postgres.pid
        roots["broker"] = self._broker.pid
        assert self._redis.process is not None
        roots["redis"] = self._redis.process.pid
        return {name: list(_family(pid)) for name, pid in roots.items()}


def _secret_of(token: str) -> str:
    text = token.partition(".")[2]
    return str(json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))["s"])


def _family(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield from _family(int(child))


def _pss_mib(pid: int) -> float:
    # A server's process may end between its listing and its reading.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / MIB
    return 0.0


def _cpu_s(pid: int) -> float:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0
