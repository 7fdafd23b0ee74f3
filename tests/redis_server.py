"""A Redis of the test's own, to be killed, flushed and paused."""

import asyncio
import os
import shutil
import signal
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

PROGRAM = shutil.which("redis-server")


class RedisServer:
    """On a Unix socket in `folder`, with nothing on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"unix://{self._folder}/redis.sock"

    async def start(self) -> None:
        assert PROGRAM is not None
        self._process = await asyncio.create_subprocess_exec(
            PROGRAM, "--port", "0", "--unixsocket", f"{self._folder}/redis.sock", "--save", "",
            "--dir", str(self._folder), stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        async with asyncio.timeout(20):
            while not await self._answers():
                await asyncio.sleep(0.01)

    async def _answers(self) -> bool:
        try:
            await self.command("PING")
        except (RedisError, OSError):
            return False
        return True

    async def command(self, *words: str | int) -> object:
        redis = Redis.from_url(self.url, decode_responses=True)
        try:
            return await redis.execute_command(*words)  # type: ignore[no-untyped-call]
        finally:
            await redis.aclose()

    async def flush(self) -> None:
        await self.command("FLUSHALL")

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def pause(self) -> None:
        """It takes connections and answers nothing, as one that hangs."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)
