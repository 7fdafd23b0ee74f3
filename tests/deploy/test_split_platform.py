"""The split platform as a whole: reached through its edge, killed in parts, and well again."""

import asyncio
import hashlib
import json
import os
import socket
import ssl
import subprocess

import aio_pika
import httpx
import pytest

from tests.deploy.people import answered, approved, operator
from tests.deploy.stack import Stack
from tests.e2e.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.docker, pytest.mark.timeout(900)]

MIB = 1 << 20
BACK_WITHIN_S = 60
STATELESS = ("auth", "storage", "registry", "market", "scheduler", "gateway")


async def test_an_account_is_approved_and_its_files_come_back_as_sent(stack: Stack) -> None:
    admin = await operator(stack)
    person = await approved(stack, admin)
    await person.has_a_wallet()
    content = os.urandom(64 * MIB)
    sent = await person.http.put(
        "/api/v1/files/content", params={"path": "/scan.bin"}, content=content
    )
    assert sent.status_code == 201, sent.text
    received = await person.http.get("/api/v1/files/content", params={"path": "/scan.bin"})
    assert hashlib.sha256(received.content).digest() == hashlib.sha256(content).digest()


async def test_plain_http_leads_to_https_and_shows_the_ca(stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{stack.http_port}") as http:
        led = await http.get("/api/docs?x=1")
        ca = await http.get("/ca.pem")
    assert (led.status_code, led.headers["location"]) == (308, f"{stack.url}/api/docs?x=1")
    assert ca.text == stack.secret("ca.pem").read_text()


async def test_what_is_for_the_inside_is_not_served_outside(stack: Stack) -> None:
    async with stack.client() as http:
        for path in ("/internal/service-tokens", "/metrics", "/api/v1/internal/x", "/edge-health"):
            response = await http.post(path, json={})
            assert response.status_code == 404, path


async def test_images_are_closed_to_those_without_a_login(stack: Stack) -> None:
    async with stack.client() as http:
        for path in ("/v2/", "/v2/_catalog", "/v2/chusuan/minimal/manifests/1"):
            # 503: the registry service cannot be asked, and then nobody enters.
            assert (await http.get(path)).status_code in (401, 403, 503), path


def test_the_brokers_door_speaks_tls_and_keeps_strangers_out(stack: Stack) -> None:
    with (
        socket.create_connection(("127.0.0.1", stack.broker_port), timeout=10) as plain,
        stack.trust.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
    ):
        assert tls.version() in ("TLSv1.2", "TLSv1.3")
        tls.sendall(b"AMQP\x00\x00\x09\x01")
        # Connection.Start; there is no guest to log in as.
        assert tls.recv(7)[:1] == b"\x01"
    users = stack.run("exec", "-T", "rabbitmq", "rabbitmqctl", "-q", "list_users")
    assert "guest" not in users
    unsigned = ssl.create_default_context()
    with (
        socket.create_connection(("127.0.0.1", stack.broker_port), timeout=10) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        unsigned.wrap_socket(plain, server_hostname="127.0.0.1")


async def test_an_outside_program_is_let_in_and_hears_what_it_asked_for(stack: Stack) -> None:
    admin = await operator(stack)
    wish = {"name": "archive", "patterns": ["auth.account.approved"]}
    made = await admin.call("POST", "/events/subscribers", wish)

    async def stands() -> bool:
        found = await admin.call("GET", "/events/subscribers")
        return [one["state"] for one in found["items"]] == ["standing"]

    await until(stands, timeout_s=BACK_WITHIN_S, what="the program's login stands")
    person = await approved(stack, admin)
    ca = stack.secret("ca.pem")
    async with (
        await aio_pika.connect(f"{made['url']}?cafile={ca}") as connection,
        asyncio.timeout(BACK_WITHIN_S),
    ):
        channel = await connection.channel()
        queue = await channel.get_queue(made["queue"], ensure=False)
        async with queue.iterator() as messages:
            async for message in messages:
                await message.ack()
                if json.loads(message.body)["subject"] == person.account["id"]:
                    break
    await admin.call("DELETE", f"/events/subscribers/{made['id']}")


def test_the_net_disks_sftp_door_is_open(stack: Stack) -> None:
    with socket.create_connection(("127.0.0.1", stack.sftp_port), timeout=10) as door:
        assert door.recv(8) == b"SSH-2.0-"


def test_the_engine_shows_no_secret_of_any_container(stack: Stack) -> None:
    shown = json.dumps(stack.containers())
    for path in (stack.folder / "deploy" / "secrets").iterdir():
        if path.name.endswith(("_password", "_secret", "_url")):
            assert path.read_text().strip() not in shown, path.name


def test_a_services_role_sees_no_other_services_database(stack: Stack) -> None:
    password = stack.secret("market_database_password").read_text().strip()

    def connects(database: str) -> bool:
        words = ["psql", "-h", "127.0.0.1", "-U", "market", "-d", database, "-c", "SELECT 1"]
        script = 'PGPASSWORD=$(cat /run/secrets/market_database_password) exec "$@"'
        done = subprocess.run(
            [*stack.compose, "exec", "-T", "postgres", "bash", "-c", script, "psql", *words],
            cwd=stack.folder, check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert password not in done.stdout + done.stderr
        return done.returncode == 0

    assert connects("market")
    assert not connects("auth")
    assert not connects("postgres")


async def test_two_copies_share_the_work_and_one_that_dies_is_not_missed(stack: Stack) -> None:
    admin = await operator(stack)
    stack.run("up", "-d", "--scale", "market=2")
    try:
        await stack.until_well()
        assert len(stack.containers("market")) == 2
        # A second connection is only made while the first is busy.
        calls = [admin.http.get("/api/v1/offers") for _ in range(60)]
        assert {response.status_code for response in await asyncio.gather(*calls)} == {200}
        stack.kill("market")
        survived = [await admin.http.get("/api/v1/offers") for _ in range(40)]
        assert [response.status_code for response in survived].count(200) >= 38
        person = await approved(stack, admin)
        await person.has_a_wallet()
        await stack.until_well()
    finally:
        stack.run("up", "-d", "--scale", "market=1")
    await stack.until_well()


@pytest.mark.parametrize("service", STATELESS)
async def test_a_service_that_is_killed_comes_back_by_itself(stack: Stack, service: str) -> None:
    admin = await operator(stack)
    killed = stack.kill(service)

    async def is_back() -> bool:
        (now,) = stack.containers(service)
        return bool(now["Id"] == killed and now["RestartCount"]) and not stack.unwell()

    await until(is_back, timeout_s=BACK_WITHIN_S, what=f"{service} came back")
    person = await approved(stack, admin)
    await person.has_a_wallet()


async def test_a_service_stops_in_time_when_it_is_asked(stack: Stack) -> None:
    stack.run("stop", "-t", "30", *STATELESS)
    try:
        for service in STATELESS:
            (container,) = stack.containers(service)
            # 137 would be a kill after the time was over.
            assert container["State"]["ExitCode"] in (0, 143), service
    finally:
        stack.run("up", "-d")
    await stack.until_well()


@pytest.mark.parametrize("store", ["rabbitmq", "postgres", "redis"])
@pytest.mark.parametrize("how", ["restart", "kill"])
async def test_the_platform_outlives_the_loss_of_a_store(
    stack: Stack, store: str, how: str
) -> None:
    admin = await operator(stack)
    before = await approved(stack, admin)
    if how == "kill":
        stack.kill(store)
    else:
        stack.run("restart", store)
    await stack.until_well()

    async def works() -> bool:
        return (await admin.http.get("/api/v1/accounts")).is_success

    await until(works, timeout_s=BACK_WITHIN_S, what="the operator can look at accounts")
    await before.has_a_wallet()
    after = await approved(stack, await operator(stack))
    await after.has_a_wallet()
    assert answered(await before.http.get("/api/v1/wallet"))["balance"] is not None


async def test_every_login_between_the_parts_can_be_replaced(stack: Stack) -> None:
    """As docs/deploy.md says it."""
    before = {path.name: path.read_bytes() for path in stack.secret(".").iterdir()}
    person = await approved(stack, await operator(stack))
    for group in ("databases", "bus", "broker-admin", "redis", "services", "certificate"):
        stack.init("--rotate", group)
    services = ("auth", "storage", "registry", "market", "scheduler")
    stack.run("up", "-d", "--force-recreate", "--no-deps", "postgres", "rabbitmq", "redis")
    await stack.until_well("postgres", "rabbitmq", "redis")
    script = "/docker-entrypoint-initdb.d/10-services.sh"
    stack.run("exec", "-T", "-u", "postgres", "postgres", "bash", script)
    stack.run("up", "-d", "--force-recreate", "--no-deps", *services, "gateway", "edge")
    await stack.until_well()

    kept = {"ca.key", "ca.pem", "edge-public.conf", "oci_config.yml"}
    kept |= {"operator_password", "signing_key"}
    after = {path.name: path.read_bytes() for path in stack.secret(".").iterdir()}
    assert {name for name in before if before[name] == after[name]} == kept
    await person.has_a_wallet()
    await (await approved(stack, await operator(stack))).has_a_wallet()
