"""Password hashing off the event loop, a few at a time: each hash takes 32 MiB."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from services.auth.errors import Busy

WAITING_LIMIT = 64


class Passwords:
    """argon2id. threads: hashes at once; more callers than WAITING_LIMIT are told Busy."""

    def __init__(self, threads: int) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=32 * 1024, parallelism=1)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._waiting = 0
        # Whoever is not known costs as much time as whoever is.
        self._nobody = self._hasher.hash("nobody")

    async def hash(self, password: str) -> str:
        """Raises Busy."""
        return await self._run(password)

    async def matches(self, password: str, hashed: str | None) -> bool:
        """hashed: None for an unknown account; never matches, takes the same time. Raises Busy."""
        verdict = await self._run(password, hashed or self._nobody)
        return bool(verdict) and hashed is not None

    async def _run(self, password: str, hashed: str | None = None) -> str:
        if self._waiting >= WAITING_LIMIT:
            raise Busy
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, self._work, password, hashed)
        finally:
            self._waiting -= 1

    def _work(self, password: str, hashed: str | None) -> str:
        """A new hash; or, given one, that hash when the password fits it, else nothing."""
        if hashed is None:
            return self._hasher.hash(password)
        try:
            self._hasher.verify(hashed, password)
        except VerificationError:
            return ""
        return hashed

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
