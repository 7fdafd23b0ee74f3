"""A stranger registers, is approved, keeps files; a killed platform loses nothing."""

import hashlib

from tests.e2e.people import log_in, register
from tests.e2e.platform import RunningPlatform

CONTENT = b"lung nodule\n" * 100_000


async def test_from_registration_to_a_file_that_survives_a_kill(platform: RunningPlatform) -> None:
    pending = await register(platform.url)
    refused = await pending.http.get("/api/v1/files", params={"path": "/"})
    assert (refused.status_code, refused.json()["code"]) == (403, "awaiting_approval")

    operator = await log_in(platform.url, "admin", platform.operator_password)
    await operator.post(f"/accounts/{pending.account['id']}/approve")
    user = await log_in(platform.url, pending.username, pending.password)

    put = await user.http.put("/api/v1/files/content", params={"path": "/a"}, content=CONTENT)
    assert put.status_code == 201, put.text
    await platform.kill()
    await platform.start()

    # The token from before the kill is still good: keys and sessions are kept.
    back = await user.http.get("/api/v1/files/content", params={"path": "/a"})
    assert hashlib.sha256(back.content).digest() == hashlib.sha256(CONTENT).digest()
    part = await user.http.get(
        "/api/v1/files/content", params={"path": "/a"}, headers={"range": "bytes=0-3"}
    )
    assert (part.status_code, part.content) == (206, b"lung")
    facts = (await operator.get("/audit", size=200))["items"]
    mine = {fact["type"] for fact in facts if pending.account["id"] in str(fact)}
    assert {"auth.account.registered", "auth.account.approved"} <= mine
