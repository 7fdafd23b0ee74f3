"""Who comes in at the SFTP door, what they get there, and how they are shown out."""

import asyncio
import shutil
import stat
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import asyncssh
import pytest

from cli.up.postgres import Postgres
from shared.ids import new_id
from tests.service.storage.conftest import (
    MIB,
    Disk,
    Outcome,
    Person,
    open_disk,
    run,
    serve_auth,
)


async def test_a_password_opens_and_a_wrong_one_does_not(disk: Disk) -> None:
    person = await disk.person()
    assert (await person.sftp("ls")).code == 0
    wrong = await person.sftp("ls", password="not the password")
    assert wrong.code != 0
    assert "Permission denied" in wrong.output


async def test_an_account_that_waits_for_approval_is_told_so(disk: Disk, tmp_path: Path) -> None:
    pending = await disk.register()
    refused = await pending.sftp("ls")
    assert refused.code != 0
    assert "not approved" in (await _aloud(pending)).output
    assert not pending.files.exists()


async def _aloud(person: Person) -> Outcome:
    before, options = person.proof()
    return await run(
        *before, "ssh", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
        *options, "-p", str(person.disk.door.port), "-s", person.there, "sftp",
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
async def test_a_key_opens_until_it_is_removed(disk: Disk, tmp_path: Path, kind: str) -> None:
    person = await disk.person()
    await person.add_key(tmp_path, kind)
    assert (await person.sftp("ls")).code == 0
    removed = await disk.auth.delete(f"/api/v1/ssh-keys/{person.key_id}", headers=person.headers)
    assert removed.status_code == 204
    assert (await person.sftp("ls")).code != 0


async def test_a_key_opens_no_other_account(disk: Disk, user: Person) -> None:
    other = await disk.person()
    other.key = user.key
    assert (await other.sftp("ls")).code != 0
    nobody = Person(disk, {**user.account, "username": "nobody-here"}, key=user.key)
    assert (await nobody.sftp("ls")).code != 0
    traversal = Person(disk, {**user.account, "username": "../by-name"}, key=user.key)
    assert (await traversal.sftp("ls")).code != 0


async def test_a_key_whose_signature_is_not_its_own_does_not_open(disk: Disk, user: Person) -> None:
    public = asyncssh.read_public_key(f"{user.key}.pub")
    with pytest.raises(asyncssh.PermissionDenied):
        await asyncssh.connect(
            "127.0.0.1", disk.door.port, username=user.name, config=[], known_hosts=None,
            agent_path=None, client_keys=_wrong_half(public),
        )  # fmt: skip


def _wrong_half(public: asyncssh.SSHKey) -> list[asyncssh.SSHKeyPair]:
    """Claims one public key and signs with another private one."""
    pair = asyncssh.load_keypairs([asyncssh.generate_private_key("ssh-ed25519")])[0]
    pair.public_data = public.public_data
    return [pair]


async def test_disabling_ends_a_live_session_and_keeps_the_door_shut(disk: Disk) -> None:
    person = await disk.person()
    async with person.connected() as connection, connection.start_sftp_client() as client:
        file = await client.open("a", "wb")
        await file.write(b"x" * MIB)
        await disk.move(person.account, "disable", reason="test")
        async with asyncio.timeout(10):
            await connection.wait_closed()
    assert (await person.sftp("ls")).code != 0
    async with asyncio.timeout(10):
        while await disk.reserved():
            await asyncio.sleep(0.01)


async def test_a_lost_event_does_not_leave_a_disabled_account_inside(
    disk: Disk, auth_url: str
) -> None:
    url = disk.runtime.database.engine.url.render_as_string(hide_password=False)
    async with open_disk(url, auth_url, disk.root, f"memory://{new_id()}") as deaf:
        person = await deaf.person()
        async with person.connected() as connection, connection.start_sftp_client() as client:
            await deaf.move(person.account, "disable", reason="test")
            await client.listdir()
            await deaf.door.check_accounts()
            async with asyncio.timeout(10):
                await connection.wait_closed()


@pytest.mark.parametrize("words", ["-T", "-tt", "-X", "-A"])
async def test_there_is_no_shell(user: Person, words: str) -> None:
    outcome = await user.ssh(words)
    assert outcome.code != 0
    assert "request failed on channel 0" in outcome.output


async def test_nothing_but_sftp_is_served(user: Person, tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.write_bytes(b"x")
    before, options = user.proof()
    executed = await run(
        *before, "ssh", *options, "-o", "StrictHostKeyChecking=no", "-o",
        "UserKnownHostsFile=/dev/null", "-p", str(user.disk.door.port), user.there, "id",
    )  # fmt: skip
    assert executed.code != 0
    assert "uid=" not in executed.output
    assert (await user.scp("-O", str(content), f"{user.there}:a")).code != 0
    async with user.connected() as connection:
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_connection("127.0.0.1", user.disk.door.port)
        with pytest.raises(asyncssh.ChannelListenError):
            await connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", 1)
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_unix_connection("/run/docker.sock")
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.create_session(asyncssh.SSHClientSession, subsystem="other")


async def test_guesses_on_one_connection_come_to_an_end(disk: Disk) -> None:
    person = await disk.person()
    guesses = 0

    class Guessing(asyncssh.SSHClient):
        def password_auth_requested(self) -> str:
            nonlocal guesses
            guesses += 1
            return f"guess {guesses}"

    with pytest.raises(asyncssh.DisconnectError):
        await asyncssh.connect(
            "127.0.0.1", disk.door.port, username=person.name, config=[], known_hosts=None,
            agent_path=None, client_keys=None, client_factory=Guessing,
        )  # fmt: skip
    assert guesses <= 21


async def test_only_sound_algorithms_are_offered(user: Person) -> None:
    for weak in ({"kex_algs": ["diffie-hellman-group14-sha1"]}, {"mac_algs": ["hmac-sha1"],
                 "encryption_algs": ["aes128-ctr"]}):  # fmt: skip
        with pytest.raises(asyncssh.KeyExchangeFailed):
            await asyncssh.connect(
                "127.0.0.1", user.disk.door.port, username=user.name, config=[], known_hosts=None,
                client_keys=None, **weak,
            )  # fmt: skip


async def test_an_account_has_only_so_many_connections(disk: Disk) -> None:
    person = await disk.person()
    async with asyncio.timeout(60):
        held = [person.connected() for _ in range(10)]
        connections = [await h.__aenter__() for h in held]
        with pytest.raises((asyncssh.Error, OSError)):
            async with person.session():
                pass
        for connection in connections:
            connection.close()
            await connection.wait_closed()
        async with person.session() as client:
            await client.listdir()


async def test_with_auth_away_nobody_enters_and_those_inside_stay(
    postgres: Postgres, disk: Disk, tmp_path: Path
) -> None:
    url = disk.runtime.database.engine.url.render_as_string(hide_password=False)
    name = f"test_{new_id().hex}"
    await postgres.create_database(name)
    own = Path(tempfile.mkdtemp(prefix="chusuan-", dir="/tmp"))
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, own)
        auth = await stack.enter_async_context(AsyncExitStack())
        auth_url = await auth.enter_async_context(
            serve_auth(postgres.url(name), own, f"memory://{new_id()}")
        )
        deaf = await stack.enter_async_context(
            open_disk(url, auth_url, disk.root, f"memory://{new_id()}")
        )
        person = await deaf.person()
        async with person.session() as client:
            await auth.aclose()
            await deaf.door.check_accounts()
            await client.mkdir("still")
            refused = await _aloud(person)
            assert "Login is not possible right now" in refused.output
            assert (await person.sftp("ls")).code != 0


async def test_a_busy_port_is_named_with_its_setting(disk: Disk, tmp_path: Path) -> None:
    url = disk.runtime.database.engine.url.render_as_string(hide_password=False)
    with pytest.raises(OSError, match="choose another sftp_address or sftp_port"):
        async with open_disk(
            url, "http://127.0.0.1:1", tmp_path, f"memory://{new_id()}", sftp_port=disk.door.port
        ):
            pass


async def test_the_host_key_is_made_once_and_private(disk: Disk) -> None:
    path = disk.root / "sftp" / "ssh_host_ed25519_key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    told = await asyncssh.get_server_host_key("127.0.0.1", disk.door.port, config=[])
    assert told == asyncssh.read_private_key(str(path)).convert_to_public()


async def test_users_are_told_where_the_door_is_and_how_to_know_it(
    disk: Disk, user: Person, tmp_path: Path
) -> None:
    answer = await disk.http.get("/api/v1/storage", headers=user.headers)
    told = answer.json()["sftp"]
    assert (told["address"], told["port"]) == ("127.0.0.1", disk.door.port)
    scanned = await run("ssh-keyscan", "-p", str(told["port"]), told["address"])
    (tmp_path / "host").write_text(scanned.output)
    assert told["fingerprint"] in (await run("ssh-keygen", "-lf", str(tmp_path / "host"))).output
