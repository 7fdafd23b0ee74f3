"""A backup of a running platform, brought back elsewhere, is the same platform."""

import hashlib
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from shared.ids import new_id
from tests.e2e.people import Person, approved, log_in, run
from tests.e2e.platform import EmbeddedPlatform
from tests.e2e.waiting import until

pytestmark = pytest.mark.timeout(600)

CONTENT = b"lung nodule\n" * 200_000


@pytest.fixture
async def first(pytestconfig: pytest.Config) -> AsyncIterator[EmbeddedPlatform]:
    if pytestconfig.getoption("topology") == "split":
        pytest.skip("`chusuan backup` keeps a home folder; split has its stores' own backups")
    platform = EmbeddedPlatform(Path(tempfile.mkdtemp(prefix="chusuan-bk1-")), recipes=())
    await platform.start()
    yield platform
    if platform.home.exists():
        await platform.clear()


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="chusuan-bk-"))
    yield made
    shutil.rmtree(made)


async def chusuan(*words: str) -> str:
    return await run(sys.executable, "-m", "cli.main", *words, timeout_s=180)


async def figures(operator: Person, service: str) -> dict[str, float]:
    for part in (await operator.get("/health"))["services"]:
        if part["service"] == service:
            found: dict[str, float] = part["health"]["database"]["figures"]
            return found
    raise AssertionError(service)


async def operator_of(platform: EmbeddedPlatform) -> Person:
    password = (platform.home / "operator-password").read_text().strip()
    return await log_in(platform.url, "admin", password)


async def test_accounts_money_and_files_come_back_on_another_home(
    first: EmbeddedPlatform, folder: Path
) -> None:
    operator = await operator_of(first)
    user = await approved(first.url, operator, credit="123.45")
    put = await user.http.put("/api/v1/files/content", params={"path": "/a.bin"}, content=CONTENT)
    assert put.status_code == 201, put.text
    entries = (await user.get("/wallet/entries"))["items"]

    await chusuan("backup", str(folder / "one"), "--home", str(first.home))
    # What comes after the backup is not in it.
    late = await approved(first.url, operator, credit=None)
    await first.stop()
    with pytest.raises(AssertionError, match="not empty"):
        await chusuan("restore", str(folder / "one"), "--home", str(first.home))
    await first.clear()

    second = EmbeddedPlatform(Path(tempfile.mkdtemp(prefix="chusuan-bk2-")), recipes=())
    await chusuan("restore", str(folder / "one"), "--home", str(second.home))
    try:
        await second.start()
        # The very token of before is good: the signing key came back, and the session with it.
        user.http = httpx.AsyncClient(
            base_url=second.url, trust_env=False, headers=user.http.headers, timeout=30
        )
        back = await user.http.get("/api/v1/files/content", params={"path": "/a.bin"})
        assert hashlib.sha256(back.content).digest() == hashlib.sha256(CONTENT).digest()
        assert Decimal((await user.get("/wallet"))["balance"]) == Decimal("123.45")
        assert (await user.get("/wallet/entries"))["items"] == entries
        assert (await log_in(second.url, user.username, user.password)).account == user.account
        operator = await operator_of(second)
        assert (await figures(operator, "market"))["ledger_faults"] == 0
        names = [a["username"] for a in (await operator.get("/accounts", size=200))["items"]]
        assert user.username in names
        assert late.username not in names
        # New events pass, and what was told again is absorbed.
        other = await approved(second.url, operator, credit="1.00")
        assert Decimal((await other.get("/wallet"))["balance"]) == 1
        assert await dead_letters(operator) == 0
    finally:
        await second.clear()


async def dead_letters(operator: Person) -> int:
    async def all_told() -> bool:
        parts = (await operator.get("/health"))["services"]
        return all(part["health"]["database"]["outbox_waiting"] == 0 for part in parts)

    await until(all_told, timeout_s=30, what="every event is told")
    parts = (await operator.get("/health"))["services"]
    return sum(part["health"]["database"]["dead_letters"] for part in parts)


async def test_a_stopped_platform_is_backed_up_and_put_back_over_itself(
    first: EmbeddedPlatform, folder: Path
) -> None:
    operator = await operator_of(first)
    user = await approved(first.url, operator, credit="5.00")
    await first.stop()
    await chusuan("backup", str(folder / "two"), "--home", str(first.home))
    restore = ("restore", str(folder / "two"), "--home", str(first.home))
    (first.home / "storage" / new_id().hex).mkdir()
    await chusuan(*restore, "--force")
    aside = list(first.home.parent.glob(f"{first.home.name}.before-*"))
    assert len(aside) == 1
    shutil.rmtree(aside[0])
    await first.start()
    again = await log_in(first.url, user.username, user.password)
    assert Decimal((await again.get("/wallet"))["balance"]) == 5


async def test_a_restore_under_a_running_platform_is_refused(
    first: EmbeddedPlatform, folder: Path
) -> None:
    await chusuan("backup", str(folder / "three"), "--home", str(first.home))
    with pytest.raises(AssertionError, match="stop it first"):
        await chusuan("restore", str(folder / "three"), "--home", str(first.home), "--force")

    assert (await operator_of(first)).account["username"] == "admin"
