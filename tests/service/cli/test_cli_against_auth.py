"""The command line as people start it, in front of the real auth on a real database."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from pydantic import SecretStr

from services.auth.main import create_app
from services.auth.settings import AuthSettings
from shared.ids import new_id

Chusuan = Callable[..., Awaitable[tuple[int, str, str]]]
PASSWORD = "first-operator-password"


@pytest.fixture
async def auth_url(database_url: str, tmp_path: Path) -> AsyncIterator[str]:
    (tmp_path / "operator-password").write_text(PASSWORD)
    settings = AuthSettings(
        database_url=database_url,
        bus_url=f"memory://{new_id()}",
        redis_url=f"memory://{new_id()}",
        service_secret=SecretStr("s" * 32),
        signing_key_file=tmp_path / "key.pem",
        first_operator_password_file=tmp_path / "operator-password",
        access_token_lives_s=20,  # shorter than the margin: every command refreshes
    )
    started = asyncio.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            started.set()

    server = Server(uvicorn.Config(create_app(settings), port=0, log_config=None))
    running = asyncio.create_task(server._serve())
    await asyncio.wait_for(started.wait(), 30)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await running


@pytest.fixture
def chusuan(auth_url: str, tmp_path: Path) -> Chusuan:
    async def run(who: str, *words: str, stdin: str = "") -> tuple[int, str, str]:
        environment = {
            **os.environ,
            "XDG_CONFIG_HOME": str(tmp_path / who),
            "CHUSUAN_URL": auth_url,
            "LC_ALL": "C.UTF-8",
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli.main", *words, env=environment,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, errors = await process.communicate(stdin.encode())
        return process.returncode or 0, output.decode(), errors.decode()

    return run


async def test_from_registration_to_a_key_with_tokens_refreshed_by_parallel_commands(
    chusuan: Chusuan, tmp_path: Path
) -> None:
    person = ("--email", "lin@example.org", "--phone", "13800138000", "--organisation", "医院")
    code, _, errors = await chusuan(
        "user", "register", "lin-demo", *person, "--purpose", "肺结节检测算法研发",
        "--password-stdin", stdin="a-long-password-7\n",
    )  # fmt: skip
    assert code == 0, errors
    words: tuple[str, ...]
    for words in (("login", "admin", "--password-stdin"), ("approve", "lin-demo")):
        code, _, errors = await chusuan("operator", *words, stdin=f"{PASSWORD}\n")
        assert code == 0, errors
    code, _, errors = await chusuan(
        "user", "login", "lin-demo", "--password-stdin", stdin="a-long-password-7\n"
    )
    assert code == 0, errors

    answers = await asyncio.gather(*(chusuan("user", "whoami", "--json") for _ in range(3)))
    for code, output, errors in answers:
        assert code == 0, errors
        assert json.loads(output)["status"] == "active"

    key = tmp_path / "id"
    keygen = await asyncio.create_subprocess_exec(
        "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)
    )
    assert await keygen.wait() == 0
    added: tuple[str, ...] = ("keys", "add", f"{key}.pub", "--name", "laptop")
    for words in (added, ("keys", "list")):
        code, output, errors = await chusuan("user", *words)
        assert code == 0, errors
        assert "laptop" in output
    assert (await chusuan("user", "keys", "rm", "laptop"))[0] == 0
    code, _, errors = await chusuan("user", "accounts")
    assert code == 1
    assert errors
