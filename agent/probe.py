"""Does SSH answer? Asked from outside, as a user would."""

import asyncio

BANNER = b"SSH-2.0"
TIMEOUT_S = 2.0


async def ssh_answers(host: str, port: int) -> bool:
    """A port that Docker publishes accepts before anyone listens behind it: the banner counts."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                return await reader.readexactly(len(BANNER)) == BANNER
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False


def pause_s(waited_s: float) -> float:
    """Quick while an answer is due, sparing later."""
    return 0.02 if waited_s < 10 else 0.25
