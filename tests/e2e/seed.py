"""System images for the split platform's registry: what this machine's own engine has built, as an
OCI registry keeps it. Packing takes a minute, so it is done once for each image and kept in
`.cache`; a platform begins with hard links to it, as one whose registry has its images already.
"""

import asyncio
import fcntl
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.e2e import stores
from tests.e2e.people import run
from tests.e2e.platform import REPOSITORY, free_port

CACHE = REPOSITORY / ".cache" / "oci-seeds"
PACKS_S = 600


async def seed(blobs: Path, recipes: Sequence[str]) -> None:
    """blobs: of a registry that does not run yet."""
    blobs.mkdir(parents=True)
    for recipe in recipes:
        packed = await _packed(recipe)
        # Hard links: a registry writes no blob twice, and what it deletes is a name.
        await run("cp", "-al", f"{packed}/.", str(blobs))


async def _packed(recipe: str) -> Path:
    image = (await run("docker", "images", "-q", "--no-trunc", f"chusuan/{recipe}:1")).strip()
    assert image, f"chusuan/{recipe}:1 is not built on this machine: `make test` builds it"
    CACHE.mkdir(parents=True, exist_ok=True)
    place = CACHE / f"{recipe}-{image.removeprefix('sha256:')[:24]}"
    async with _one_at_a_time():
        if not place.exists():
            for old in CACHE.glob(f"{recipe}-*"):
                shutil.rmtree(old)
            await _pack(recipe, place)
    return place


@asynccontextmanager
async def _one_at_a_time() -> AsyncIterator[None]:
    """Other runs on this machine wait."""
    with (CACHE / "lock").open("w") as lock:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        yield


async def _pack(recipe: str, place: Path) -> None:
    """An engine pushes to its own machine's loopback without TLS."""
    folder = Path(tempfile.mkdtemp(prefix="packing-", dir=CACHE))
    address = f"127.0.0.1:{free_port()}"
    registry = stores.registry(folder, address)
    there = f"{address}/chusuan/{recipe}:1"
    try:
        await registry.start()
        await run("docker", "tag", f"chusuan/{recipe}:1", there)
        await run("docker", "push", "-q", there, timeout_s=PACKS_S)
        (folder / "blobs").rename(place)
    finally:
        await registry.kill()
        await run("docker", "rmi", there)
        shutil.rmtree(folder)
