"""`chusuan up`: the whole platform in one process, and what a person needs to know of it."""

import asyncio
import contextlib
import fcntl
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import uvloop
from rich.console import Console

from cli.up.docker import ensure_docker, remove_instances
from cli.up.home import Home, default_home, read_node_ids
from cli.up.platform import StartFailed, running
from cli.up.postgres import PostgresFailed
from cli.up.wiring import PlatformOptions
from shared.logging import configure_logging
from shared.telemetry import start_tracing

console = Console(highlight=False)


def up(options: PlatformOptions, *, install: bool) -> None:
    """Until Ctrl-C. install: whether a missing Docker Engine may be installed."""
    place = options.home
    with _refusals():
        place.prepare()
        for port in (options.port, options.sftp_port):
            _refuse_busy_port(options.address, port)
        log = (place.root / "platform.log").open("a")
    # Facts go to a file; the terminal stays with the person.
    sys.stderr = log
    configure_logging()
    start_tracing()
    with _alone(place), _refusals():
        missing = ensure_docker(install=install, log=place.root / "dockerd.log", say=_say)
        uvloop.run(_run(options, missing))


def clean_state(home: Path | None) -> None:
    """Remove the state folder, after asking."""
    place = Home((home or default_home()).resolve())
    if not place.root.exists():
        console.print(f"{place.root} does not exist: nothing to remove.")
        return
    what = "accounts, files, bills, instances and saved images"
    if console.input(f"Remove {place.root} with all {what}? Type yes: ") != "yes":
        console.print("Nothing was removed.")
        return
    with _alone(place):
        remove_instances(read_node_ids(place.agent))
        shutil.rmtree(place.run, ignore_errors=True)
        shutil.rmtree(place.root)
    console.print(f"Removed {place.root}.")


def _say(words: str) -> None:
    console.print(f"· {words}", soft_wrap=True)


async def _run(options: PlatformOptions, missing: str | None) -> None:
    """missing: what keeps this machine from offering GPU hosts."""
    started = time.monotonic()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(options, _say):
        _greet(options, time.monotonic() - started)
        if missing is not None:
            console.print(f"  [yellow]no GPU host[/yellow]  {missing}", soft_wrap=True)
        await stop.wait()
        console.print("\nStopping …")
    console.print("Stopped.")


def _greet(options: PlatformOptions, seconds: float) -> None:
    url = f"http://{options.address}:{options.port}"
    console.print(f"\nChusuan 楚算 is up after {seconds:.1f} s.")
    console.print(f"  API          {url}/api/v1", soft_wrap=True)
    console.print(f"  reference    {url}/api/docs", soft_wrap=True)
    console.print(f"  net disk     sftp -P {options.sftp_port} USERNAME@{options.address}")
    console.print(
        f"  operator     admin; password in {options.home.operator_password}", soft_wrap=True
    )
    console.print(f"  state, log   {options.home.root}", soft_wrap=True)
    console.print("  next         .venv/bin/chusuan register   (README has the tour)")
    console.print("  Ctrl-C stops the platform; all state is kept.")


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except (OSError, PostgresFailed, StartFailed) as error:
        console.print(f"Cannot start: {error}")
        raise SystemExit(1) from error


def _refuse_busy_port(address: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise OSError(
                f"{address}:{port} cannot be used ({error.strerror}); choose with --address, --port"
            ) from error


@contextlib.contextmanager
def _alone(home: Home) -> Iterator[None]:
    """One platform per state folder."""
    with (home.root / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print(f"A platform already runs on {home.root}; stop it first.")
            raise SystemExit(1) from None
        yield
