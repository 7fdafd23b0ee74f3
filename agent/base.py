"""Debian 12 to build upon: from a registry where one answers, else made of Debian's packages."""

import asyncio
import contextlib
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

import structlog

from agent.engine import EngineRefused, EngineUnavailable, Progress
from agent.hostfiles import debian_mirror
from agent.imaging import ImageEngine

log = structlog.get_logger(__name__)

OWN = "chusuan/base:bookworm"
FIRST_ANSWER_S = 15.0
NEXT_ANSWER_S = 60.0
TOOLS = ("debootstrap", "debian-archive-keyring")


class BaseImage:
    """name: what a registry calls it. first_answer_s: a registry silent for so long has none."""

    def __init__(
        self, images: ImageEngine, name: str, *, first_answer_s: float = FIRST_ANSWER_S
    ) -> None:
        self._images = images
        self._name = name
        self._first_answer_s = first_answer_s

    async def ensure(self, progress: Progress) -> str:
        """Its reference, once it is there. Raises EngineRefused with the reason."""
        for reference in (self._name, OWN):
            if await self._images.image(reference) is not None:
                return reference
        if await self.pulled(progress):
            return self._name
        await self._make(progress)
        return OWN

    async def pulled(self, progress: Progress) -> bool:
        """Whether a registry gave it, now."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._first_answer_s) as limit:

                def alive(share: float | None, words: str) -> None:
                    limit.reschedule(loop.time() + NEXT_ANSWER_S)
                    progress(share, words)

                await self._images.pull(self._name, alive)
        except (EngineRefused, EngineUnavailable, TimeoutError) as error:
            log.info("base_image_not_pulled", image=self._name, reason=str(error)[:200])
            return False
        return await self._images.image(self._name) is not None

    async def _make(self, progress: Progress) -> None:
        """Needs root. Raises EngineRefused."""
        if os.geteuid() != 0:
            raise EngineRefused(
                f"{self._name} cannot be pulled, and only root can make it from Debian's packages:"
                f" run `docker pull {self._name}` by hand, or the agent as root"
            )
        if shutil.which("debootstrap") is None:
            progress(None, "installing debootstrap")
            await _run("apt-get", "update", "-qq")
            await _run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *TOOLS)
        with tempfile.TemporaryDirectory(prefix="chusuan-base-") as folder:
            progress(None, "debootstrap: Debian 12 from its packages")
            context = await _bootstrap(Path(folder))
            with context.open("rb") as file:
                await self._images.build(file, OWN, {}, network="none", progress=progress)


async def _bootstrap(folder: Path) -> Path:
    """A build's context whose image is the new system."""
    system, archive, context = folder / "system", folder / "system.tar", folder / "context.tar"
    mirror = await asyncio.to_thread(debian_mirror)
    # Mounts of its own: nothing stays mounted under the folder if it is killed.
    await _run(
        "unshare", "--mount", "--propagation", "private",
        "debootstrap", "--variant=minbase", "bookworm", str(system), mirror,
    )  # fmt: skip
    await _run(
        "tar", "-C", str(system), "--numeric-owner", "--exclude=./dev/*",
        "--exclude=./var/cache/apt/archives/*.deb", "--exclude=./var/lib/apt/lists/*",
        "-cf", str(archive), ".",
    )  # fmt: skip
    (folder / "Dockerfile").write_text('FROM scratch\nADD system.tar /\nCMD ["/bin/bash"]\n')

    def pack() -> None:
        with tarfile.open(context, "w") as whole:
            for name in ("Dockerfile", "system.tar"):
                whole.add(folder / name, name)

    await asyncio.to_thread(pack)
    return context


async def _run(*command: str) -> None:
    """Raises EngineRefused with its last words. Killed when the caller is cancelled."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
        start_new_session=True,
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        await process.wait()
        raise
    if process.returncode != 0:
        raise EngineRefused(f"{command[0]} failed:\n{output.decode(errors='replace')[-1000:]}")
