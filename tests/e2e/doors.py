"""Ways into what a person has rented, with the programs of any machine."""

from pathlib import Path

from tests.e2e.people import Json, Person, run

QUIET = (
    "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
)  # fmt: skip


async def ssh(instance: Json, key: Path, command: str) -> str:
    door = instance["ssh"]
    return await run(
        "ssh", *QUIET, "-i", str(key), "-o", "IdentitiesOnly=yes", "-p", str(door["port"]),
        f"{door['username']}@{door['host']}", command,
    )  # fmt: skip


async def sftp(port: int, username: str, key: Path, batch: str) -> str:
    return await run(
        "sftp", *QUIET, "-i", str(key), "-o", "IdentitiesOnly=yes", "-P", str(port), "-b", "-",
        f"{username}@127.0.0.1", stdin=batch.encode(),
    )  # fmt: skip


def wish(offers: Json, image: Json, **more: object) -> Json:
    """A rent of one GPU on the first host that has one free."""
    offer = next(o for o in offers["items"] if o["gpu_free"] > 0)
    return {
        "offer_id": offer["id"],
        "gpu_count": 1,
        "image_id": image["id"],
        "billing": "payg",
        **more,
    }


async def rent(user: Person, image: Json, **more: object) -> Json:
    answer: Json = await user.post("/instances", wish(await user.get("/offers"), image, **more))
    return answer
