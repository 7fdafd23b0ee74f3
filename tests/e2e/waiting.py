"""Waiting for a condition, never for a time."""

import asyncio
from collections.abc import Awaitable, Callable

POLL_S = 0.1


async def until(condition: Callable[[], Awaitable[bool]], *, timeout_s: float, what: str) -> None:
    """Raises TimeoutError that says what did not come true."""
    try:
        async with asyncio.timeout(timeout_s):
            while not await condition():
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise TimeoutError(f"not within {timeout_s} s: {what}") from None
