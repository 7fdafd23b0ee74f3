"""Real parts for tests: one PostgreSQL for the run, a database of its own per service and test;
one RabbitMQ for the run, where it is installed, a virtual host of its own per test."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from asyncpg import connect

from cli.up.docker import engine_answers
from cli.up.postgres import Postgres
from shared.ids import new_id
from tests.broker import Broker, installed
from tests.redis_server import PROGRAM, RedisServer


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--topology",
        choices=("embedded", "split"),
        default="embedded",
        help="which shape of the platform tests/e2e and tests/fault run against",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if engine_answers():
        return
    skip = pytest.mark.skip(reason="no Docker Engine answers: `make test` as root starts one")
    for item in items:
        if item.get_closest_marker("docker") is not None:
            item.add_marker(skip)


@pytest.fixture(scope="session")
async def postgres() -> AsyncIterator[Postgres]:
    folder = Path(tempfile.mkdtemp(prefix="chusuan-test-"))
    server = Postgres(folder / "postgres")
    await server.start()
    yield server
    await server.stop()
    shutil.rmtree(folder)


@pytest.fixture
async def new_database(postgres: Postgres) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    """Makes empty databases and answers their URLs; they end with the test."""
    names: list[str] = []

    async def create() -> str:
        name = f"test_{new_id().hex}"
        await postgres.create_database(name)
        names.append(name)
        return postgres.url(name)

    yield create
    admin = await connect(
        host=postgres.url("").partition("host=")[2], user="postgres", database="postgres"
    )
    for name in names:
        await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    await admin.close()


@pytest.fixture
async def database_url(new_database: Callable[[], Awaitable[str]]) -> str:
    return await new_database()


@pytest.fixture(scope="session")
async def broker() -> AsyncIterator[Broker]:
    if not installed():
        pytest.skip("rabbitmq-server is not installed: `make test` as root installs it")
    broker = Broker()
    try:
        await broker.start()
        yield broker
    finally:
        await broker.close()


@pytest.fixture
async def broker_url(broker: Broker) -> AsyncIterator[str]:
    """The platform's login in an empty virtual host."""
    url = await broker.new_vhost()
    yield url
    await broker.drop_vhost(url)


@pytest.fixture
async def redis_server() -> AsyncIterator[RedisServer]:
    if PROGRAM is None:
        pytest.skip("redis-server is not installed: `apt-get install redis-server`")
    # A socket's path is short, and pytest's folders are not.
    folder = Path(tempfile.mkdtemp(prefix="chusuan-redis-"))
    server = RedisServer(folder)
    await server.start()
    yield server
    await server.kill()
    shutil.rmtree(folder)
