"""No input makes a route answer 500: schemathesis over the joined OpenAPI document."""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.people import approved, log_in
from tests.e2e.platform import EmbeddedPlatform

pytestmark = pytest.mark.timeout(900)

EXAMPLES = os.environ.get("CHUSUAN_SCHEMATHESIS_EXAMPLES", "8")


@pytest.fixture
async def doomed() -> AsyncIterator[EmbeddedPlatform]:
    """Nobody else's: what is generated uses ids that were answered before, and so it may well drain
    the host, hide the images and shut people out."""
    platform = EmbeddedPlatform(Path(tempfile.mkdtemp(prefix="chusuan-bad-")), recipes=("minimal",))
    try:
        await platform.start()
        yield platform
    finally:
        await platform.clear()


@pytest.mark.parametrize("role", ["user", "operator"])
async def test_no_generated_request_is_answered_with_a_server_error(
    doomed: EmbeddedPlatform, role: str
) -> None:
    operator = await log_in(doomed.url, "admin", doomed.operator_password)
    person = operator if role == "operator" else await approved(doomed.url, operator, credit=None)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "run", f"{doomed.url}/api/openapi.json",
        "--url", doomed.url, "--checks", "not_a_server_error", "--max-examples", EXAMPLES,
        "--phases", "examples,fuzzing", "--workers", "1", "--seed", "7", "--no-color",
        "-H", f"Authorization: {person.http.headers['authorization']}",
        # The tail of events has no end.
        "--exclude-path-regex", "sessions/(current|{session_id})$|me/password|events/tail$",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
    )  # fmt: skip
    output, _ = await process.communicate()
    async with httpx.AsyncClient(base_url=doomed.url, trust_env=False) as http:
        assert (await http.get("/readyz")).status_code == 200
    assert process.returncode == 0, output.decode()[-6000:]
