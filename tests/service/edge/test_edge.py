"""The edge's configuration on a real nginx, before a real OCI registry; who may is played."""

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext, create_default_context

import httpx
import pytest

from cli.images import ROOT, stand_ins
from shared.ids import new_id
from tests.e2e.waiting import until
from tests.service.gateway.serving import free_port

pytestmark = pytest.mark.docker

HOST = ("host", "right")
MIB = 1 << 20


def docker(*words: str, cwd: Path | None = None, config: Path | None = None) -> str:
    environment = {**os.environ, **({"DOCKER_CONFIG": str(config)} if config else {})}
    done = subprocess.run(
        ["docker", *words], cwd=cwd, env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, f"docker {words}: {done.stdout}{done.stderr}"
    return done.stdout


@dataclass
class Edge:
    name: str
    https: int
    http: int
    trust: SSLContext
    config: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.https}"

    def client(self) -> httpx.AsyncClient:
        url = f"https://{self.address}"
        return httpx.AsyncClient(base_url=url, verify=self.trust, trust_env=False, timeout=60)


def _need_images() -> None:
    for image in ("nginx:1.22", "registry:2", "python:3.11-slim-bookworm"):
        assert image in {one.image for one in stand_ins()}
        done = subprocess.run(
            ["docker", "image", "inspect", image], check=False, capture_output=True
        )
        if done.returncode:
            pytest.skip(f"{image} is not here: make images")


@pytest.fixture(scope="module")
async def edge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    _need_images()
    if os.geteuid() != 0:
        pytest.skip("deploy/init gives files to the containers' users: run as root")
    tmp_path = tmp_path_factory.mktemp("edge")
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns("secrets"))
    https, http = free_port(), free_port()
    subprocess.run(
        [tmp_path / "deploy" / "init", "127.0.0.1"],
        env={"PATH": os.environ["PATH"], "CHUSUAN_HTTPS_PORT": str(https)},
        check=True,
    )
    secrets = tmp_path / "deploy" / "secrets"
    name = f"chusuan-edge-{new_id().hex[-8:]}"
    docker("network", "create", name)
    made: list[str] = []

    def run(alias: str, *words: str) -> None:
        made.append(f"{name}-{alias}")
        docker("run", "-d", "--name", made[-1], "--network", name, "--network-alias", alias, *words)

    try:
        played = f"{Path(__file__).parent / 'played.py'}:/played.py:ro"
        python = ("-v", played, "python:3.11-slim-bookworm", "python", "/played.py")
        run("gateway", "--network-alias", "registry", *python)
        oci = secrets / "oci_config.yml"
        run("oci", "-v", f"{oci}:/run/secrets/oci_config.yml:ro", "registry:2",
            "/run/secrets/oci_config.yml")  # fmt: skip
        run("edge", "-p", f"127.0.0.1:{https}:443", "-p", f"127.0.0.1:{http}:80",
            "-v", f"{tmp_path}/deploy/edge/nginx.conf:/etc/nginx/nginx.conf:ro",
            "-v", f"{secrets}:/run/secrets:ro", "nginx:1.22")  # fmt: skip
        trust = create_default_context(cafile=str(secrets / "ca.pem"))
        made_edge = Edge(name, https, http, trust, tmp_path / "docker-config")
        await until(_answers(made_edge), timeout_s=30, what="all behind the edge answer")
        yield made_edge
    finally:
        docker("rm", "-f", "-v", *made)
        docker("network", "rm", name)


def _answers(edge: Edge) -> Callable[[], Awaitable[bool]]:
    async def ask() -> bool:
        try:
            async with edge.client() as http:
                first = await http.get("/")
                return first.is_success and (await http.get("/v2/", auth=HOST)).is_success
        except httpx.TransportError:
            return False

    return ask


async def test_the_gateway_hears_who_calls_and_how_and_not_what_the_caller_says_of_it(
    edge: Edge,
) -> None:
    lies = {"x-forwarded-for": "9.9.9.9", "x-forwarded-proto": "http", "authorization": "Bearer t"}
    async with edge.client() as http:
        said = (await http.get("/api/v1/accounts?a=%2F..%2F", headers=lies)).json()
    heard = {key.lower(): value for key, value in said.items()}
    assert heard["path"] == "/api/v1/accounts?a=%2F..%2F"
    assert heard["x-forwarded-for"] != "9.9.9.9"
    assert "," not in heard["x-forwarded-for"]
    assert heard["x-forwarded-proto"] == "https"
    assert heard["host"] == edge.address
    assert heard["authorization"] == "Bearer t"


async def test_a_wish_for_a_web_socket_reaches_the_gateway(edge: Edge) -> None:
    async with edge.client() as http:
        wish = {"upgrade": "websocket", "connection": "Upgrade"}
        said = (await http.get("/apps/x", headers=wish)).json()
    heard = {key.lower(): value for key, value in said.items()}
    assert (heard["upgrade"], heard["connection"]) == ("websocket", "upgrade")


async def test_a_path_for_the_inside_does_not_pass(edge: Edge) -> None:
    async with edge.client() as http:
        for path in ("/internal", "/internal/oci/authorise", "/%69nternal/x", "/metrics"):
            assert (await http.get(path)).status_code == 404, path
        for path in ("/x/../internal/y", "/_authorise_image"):
            assert (await http.get(path)).status_code == 404, path


async def test_a_body_larger_than_any_buffer_passes(edge: Edge) -> None:
    async with edge.client() as http:
        answer = await http.put("/api/v1/files/content", content=os.urandom(64 * MIB))
    assert answer.json() == {"bytes": 64 * MIB}


async def test_who_has_no_login_for_images_is_asked_for_one(edge: Edge) -> None:
    async with edge.client() as http:
        refused = await http.get("/v2/")
        wrong = await http.get("/v2/", auth=("host", "wrong"))
        forbidden = await http.post("/v2/closed/blobs/uploads/", auth=HOST)
        right = await http.get("/v2/", auth=HOST)
    assert refused.status_code == wrong.status_code == 401
    assert refused.headers["www-authenticate"] == 'Basic realm="Chusuan"'
    assert forbidden.status_code == 403
    assert right.status_code == 200


async def test_nobody_reaches_images_while_the_one_who_decides_is_away(edge: Edge) -> None:
    docker("kill", f"{edge.name}-gateway")
    try:
        async with edge.client() as http:
            images = await http.get("/v2/", auth=HOST)
            anything = await http.get("/")
    finally:
        docker("start", f"{edge.name}-gateway")
        await until(_answers(edge), timeout_s=30, what="it is back")
    for answer in (images, anything):
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert json.loads(answer.content)["code"] == "unavailable"


async def test_an_engine_pushes_and_pulls_a_large_image(edge: Edge, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "blob").write_bytes(os.urandom(48 * MIB))
    (context / "Dockerfile").write_text("FROM scratch\nCOPY blob /\n")
    reference = f"{edge.address}/open/large:1"
    docker("build", "-q", "-t", reference, ".", cwd=context)
    try:
        subprocess.run(
            ["docker", "login", edge.address, "-u", HOST[0], "--password-stdin"],
            env={**os.environ, "DOCKER_CONFIG": str(edge.config)},
            input=HOST[1], text=True, check=True, capture_output=True,
        )  # fmt: skip
        docker("push", reference, config=edge.config)
        made = docker("image", "inspect", "-f", "{{.Id}}", reference)
        docker("rmi", "-f", reference)
        docker("pull", reference, config=edge.config)
        assert docker("image", "inspect", "-f", "{{.Id}}", reference) == made
    finally:
        subprocess.run(["docker", "rmi", "-f", reference], check=False, capture_output=True)
