"""Places at which a test ends this process, to prove that whatever dies comes back.

Where the environment says nothing, passing one costs a look at a flag.

- `CHUSUAN_CRASH_AT=NAME` or `NAME#N`: SIGKILL at the N-th pass of that point; `@FILE`: the file
  says it, at any time, and passes count from each new word on.
- `CHUSUAN_CRASH_RECORD=FILE`: a line for every pass.
"""

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

_AT = os.environ.get("CHUSUAN_CRASH_AT", "")
_RECORD = os.environ.get("CHUSUAN_CRASH_RECORD", "")
ACTIVE = bool(_AT or _RECORD)

_use: ContextVar[Callable[[], str]] = ContextVar("use", default=lambda: "unnamed")
_lock = threading.Lock()
_passes: Counter[str] = Counter()
_armed = ""


@contextmanager
def doing(name: Callable[[], str]) -> Iterator[None]:
    """Points inside that are named by their use bear this one: of a route, a worker, a consumer."""
    token = _use.set(name)
    try:
        yield
    finally:
        _use.reset(token)


async def within(name: str, work: Coroutine[Any, Any, None]) -> None:
    with doing(lambda: name):
        await work


def crash_point(name: str, *, of_use: bool = False) -> None:
    """of_use: the name goes after that of the present use."""
    if ACTIVE:
        _pass(f"{_use.get()()}.{name}" if of_use else name)


@contextmanager
def crash_points(act: str, *, of_use: bool = False) -> Iterator[None]:
    """One before the act, one after it; none when it raises."""
    crash_point(f"{act}.before", of_use=of_use)
    yield
    crash_point(f"{act}.after", of_use=of_use)


def _pass(name: str) -> None:
    global _armed
    with _lock:
        if _RECORD:
            with open(_RECORD, "a") as record:
                record.write(f"{name}\n")
        wanted = Path(_AT[1:]).read_text().strip() if _AT.startswith("@") else _AT
        if wanted != _armed:
            _armed = wanted
            _passes.clear()
        _passes[name] += 1
        where, _, number = wanted.partition("#")
        if name == where and _passes[name] == int(number or 1):
            os.kill(os.getpid(), signal.SIGKILL)
