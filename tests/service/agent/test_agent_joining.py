"""A host joins a platform: against a small server that speaks the documented contract, over TLS
with a certificate authority of its own."""

import asyncio
import base64
import hashlib
import ipaddress
import json
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fastapi import FastAPI, Response

from agent.credential import (
    FILE,
    CredentialUnreadable,
    bus_url_of,
    load,
    trust_registry,
)
from agent.joining import JoinError, enter, read_token
from agent.main import run_as_node
from agent.nodes import NodesFileError
from agent.settings import AgentSettings
from shared.clock import utc_now
from shared.ids import new_id
from tests.service.agent.conftest import NODES

AGENT = new_id()
SECRET = "s3cret"


def certificate(
    folder: Path, name: str, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Written as NAME.pem and NAME.key; its own authority unless given."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    parent, parent_key = issuer or (None, key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(parent.subject if parent is not None else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(utc_now() - timedelta(days=1))
        .not_valid_after(utc_now() + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
    )
    made = builder.sign(parent_key, hashes.SHA256())
    (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return made, key


@dataclass
class Platform:
    """answers: for the coming requests, instead of the good one."""

    url: str = ""
    ca_pem: bytes = b""
    shown_ca: bytes = b""
    asked: list[dict[str, Any]] = field(default_factory=list)
    answers: list[tuple[int, object]] = field(default_factory=list)
    node_id: UUID = field(default_factory=new_id)

    def token(self, *, url: str | None = None, secret: str = SECRET, pinned: bool = True) -> str:
        ca = hashlib.sha256(self.ca_pem).hexdigest() if pinned else ""
        return encode({"u": url or self.url, "s": secret, "c": ca})

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/ca.pem")
        async def ca() -> Response:
            return Response(self.shown_ca, media_type="application/x-pem-file")

        @app.post("/api/v1/nodes/join")
        async def join(body: dict[str, Any]) -> Response:
            self.asked.append(body)
            if self.answers:
                status, answer = self.answers.pop(0)
                return Response(json.dumps(answer), status)
            password = f"pw-{len(self.asked)}"
            login = f"node.{self.node_id}"
            return Response(
                json.dumps(
                    {
                        "node_id": str(self.node_id),
                        "bus_url": f"amqps://{login}:{password}@127.0.0.1:5671/chusuan",
                        "registry_address": "127.0.0.1:5443",
                        "registry_username": login,
                        "registry_password": password,
                        "ca_pem": self.ca_pem.decode(),
                    }
                ),
                201,
            )

        return app


def encode(document: object) -> str:
    return "csj1." + base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


@asynccontextmanager
async def serving(platform: Platform, folder: Path) -> AsyncIterator[None]:
    ca = certificate(folder, "ca", None)
    certificate(folder, "server", ca)
    platform.ca_pem = platform.shown_ca = (folder / "ca.pem").read_bytes()
    config = uvicorn.Config(
        platform.app(), port=0, log_config=None,
        ssl_certfile=folder / "server.pem", ssl_keyfile=folder / "server.key",
    )  # fmt: skip
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())
    async with asyncio.timeout(10):
        while not server.started:
            await asyncio.sleep(0.01)
    platform.url = f"https://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    yield
    server.should_exit = True
    await task


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[Platform]:
    made = Platform()
    (tmp_path / "tls").mkdir()
    async with serving(made, tmp_path / "tls"):
        yield made


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


async def join(state: Path, token: str | None) -> Any:
    found = read_token(token) if token is not None else None
    return await enter(state, found, agent_id=AGENT, name="gpu-1", region="east")


async def test_a_host_joins_keeps_its_credential_to_itself_and_needs_no_token_again(
    platform: Platform, state: Path
) -> None:
    joined = await join(state, platform.token())
    assert platform.asked == [
        {"secret": SECRET, "agent_id": str(AGENT), "name": "gpu-1", "region": "east"}
    ]
    assert (joined.node_id, joined.source) == (platform.node_id, f"node.{platform.node_id}")
    assert joined.access is not None
    assert joined.access.password.get_secret_value() == "pw-1"
    assert stat.S_IMODE((state / FILE).stat().st_mode) == 0o600
    assert "pw-1" not in repr(joined)
    for token in (None, platform.token()):
        assert await join(state, token) == joined
    assert len(platform.asked) == 1


async def test_an_answer_that_was_lost_costs_nothing(platform: Platform, state: Path) -> None:
    await join(state, platform.token())
    (state / FILE).unlink()
    again = await join(state, platform.token())
    assert platform.asked[0] == platform.asked[1]
    assert again.access.password.get_secret_value() == "pw-2"


async def test_a_new_token_of_the_same_platform_joins_again(
    platform: Platform, state: Path
) -> None:
    await join(state, platform.token())
    again = await join(state, platform.token(secret="newer"))
    assert platform.asked[1]["secret"] == "newer"
    assert load(state) == again


async def test_a_token_of_another_platform_is_refused_with_the_cure(
    platform: Platform, state: Path
) -> None:
    await join(state, platform.token())
    with pytest.raises(JoinError, match=r"belongs to .* already.*chusuan nodes remove"):
        await join(state, platform.token(url="https://elsewhere.example"))


async def test_another_authority_than_the_tokens_gets_no_secret(
    platform: Platform, state: Path, tmp_path: Path
) -> None:
    certificate(tmp_path, "false", None)
    platform.shown_ca = (tmp_path / "false.pem").read_bytes()
    with pytest.raises(JoinError, match="another certificate authority"):
        await join(state, platform.token())
    assert platform.asked == []


async def test_a_server_that_its_own_authority_did_not_sign_gets_no_secret(
    platform: Platform, state: Path, tmp_path: Path
) -> None:
    certificate(tmp_path, "false", None)
    platform.ca_pem = platform.shown_ca = (tmp_path / "false.pem").read_bytes()
    with pytest.raises(JoinError, match="cannot be reached"):
        await join(state, platform.token())
    with pytest.raises(JoinError, match="cannot be reached"):
        await join(state, platform.token(pinned=False))
    assert platform.asked == []


@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        (410, {"detail": "It has expired."}, r"not valid any more.*It has expired.*nodes invite"),
        (401, {"detail": "No."}, "nodes invite"),
        (409, {"detail": "Taken."}, r"another host.*nodes invite"),
        (422, {"detail": "Bad name."}, r"name or region.*Bad name"),
        (429, {}, "wait a minute"),
        (503, "gone", "run the same command again"),
        (200, {"node_id": "x"}, r"does not understand \(node_id, bus_url\)"),
    ],
)
async def test_a_refusal_is_a_sentence_with_its_cure_and_leaves_nothing_behind(
    platform: Platform, state: Path, status: int, answer: object, words: str
) -> None:
    platform.answers.append((status, answer))
    with pytest.raises(JoinError, match=words):
        await join(state, platform.token())
    assert load(state) is None


async def test_nobody_there_is_a_sentence_too(state: Path) -> None:
    token = encode({"u": "http://127.0.0.1:9", "s": "x", "c": ""})
    with pytest.raises(JoinError, match=r"127\.0\.0\.1:9 cannot be reached"):
        await join(state, token)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "csj1.",
        "csj1.%%%",
        "csj1.ü",
        "csj2." + encode({})[5:],
        encode([]),
        encode({"u": "https://x", "s": ""}),
        encode({"u": "file:///etc/passwd", "s": "x"}),
        encode({"u": "https://x", "s": "x", "c": "abc"}),
        encode({"u": "https://x", "s": "x"})[:-7],
        "csj1." + base64.urlsafe_b64encode(b"[" * 100_000).decode(),
    ],
)
def test_a_damaged_token_is_told_from_a_strange_one_and_names_the_cure(text: str) -> None:
    with pytest.raises(JoinError, match="chusuan nodes invite"):
        read_token(text)


def test_a_token_may_be_padded_and_end_with_a_line() -> None:
    text = (
        "csj1."
        + base64.urlsafe_b64encode(json.dumps({"u": "https://x/", "s": "é?>"}).encode()).decode()
    )
    token = read_token(f"  {text}\n")
    assert (token.platform, token.s, token.c) == ("https://x", "é?>", "")


async def test_the_platforms_authority_is_trusted_by_bus_and_docker(
    platform: Platform, state: Path, tmp_path: Path
) -> None:
    joined = await join(state, platform.token())
    assert bus_url_of(joined, state) == (
        f"amqps://node.{platform.node_id}:pw-1@127.0.0.1:5671/chusuan?cafile={state}/ca.pem"
    )
    assert (state / "ca.pem").read_bytes() == platform.ca_pem
    for _ in range(2):
        trust_registry(joined, tmp_path / "certs.d")
    assert (tmp_path / "certs.d/127.0.0.1:5443/ca.crt").read_bytes() == platform.ca_pem


def test_a_damaged_credential_says_which_file(state: Path) -> None:
    (state / FILE).write_text("{")
    with pytest.raises(CredentialUnreadable, match=r"credential\.json cannot be read"):
        load(state)


Options = Callable[..., AgentSettings]


@pytest.fixture
def settings(state: Path, tmp_path: Path) -> Options:
    second = NODES.replace('"sim-test"', '"sim-two"')
    (tmp_path / "two.toml").write_text(NODES + second)

    def make(**changes: Any) -> AgentSettings:
        return AgentSettings(
            state_dir=state, run_dir=tmp_path / "run", nodes_file=tmp_path / "two.toml", **changes
        )

    return make


async def test_one_agent_is_one_node_of_those_declared(
    settings: Options, platform: Platform
) -> None:
    with pytest.raises(NodesFileError, match="choose --node from sim-test, sim-two"):
        await run_as_node(settings(join=platform.token()))
    with pytest.raises(NodesFileError, match="no node is declared as 'x'"):
        await run_as_node(settings(join=platform.token(), node="x"))
    assert platform.asked == []
    platform.answers.append((410, {}))
    with pytest.raises(JoinError):
        await run_as_node(settings(join=platform.token(), node="sim-two"))
    assert (platform.asked[0]["name"], platform.asked[0]["region"]) == ("sim-two", "test-1")
    platform.answers.append((410, {}))
    with pytest.raises(JoinError):
        await run_as_node(
            settings(join=platform.token(), node="sim-two", name="mine", region="west")
        )
    assert (platform.asked[1]["name"], platform.asked[1]["region"]) == ("mine", "west")
    assert platform.asked[0]["agent_id"] == platform.asked[1]["agent_id"]


async def test_a_host_that_never_joined_says_how(settings: Options) -> None:
    with pytest.raises(JoinError, match="chusuan agent --join TOKEN"):
        await run_as_node(settings(node="sim-two"))


def test_labels_are_read_from_one_line_and_a_word_without_a_value_is_refused() -> None:
    labels = AgentSettings.model_validate({"labels": "rack=a1, owner=放射科"}).labels
    assert labels == {"rack": "a1", "owner": "放射科"}
    for bad in ("rack", "RACK=1", "a=\x00"):
        with pytest.raises(ValueError, match="label"):
            AgentSettings.model_validate({"labels": bad})
