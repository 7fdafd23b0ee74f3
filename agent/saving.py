"""A container's system disk becomes an image that holds none of its owner's secrets.

What is blanked for the commit is in the journal first, so that a crash loses nobody's password.
"""

import asyncio
from uuid import UUID

from agent.engine import CommittedImage, Engine, FileCopy, NotAFile
from agent.journal import Journal, Originals

SHADOW = "/etc/shadow"
KEYS = "/root/.ssh/authorized_keys"


async def save(
    engine: Engine, journal: Journal, instance_id: UUID, container: str, reference: str
) -> CommittedImage:
    """Raises NotAFile where a secret's file is something that cannot be blanked."""
    await restore(engine, journal, instance_id)
    originals: dict[str, FileCopy] = {}
    blanked: dict[str, bytes] = {}
    for path in (SHADOW, KEYS):
        file = await engine.read_file(container, path)
        if file is None:
            continue
        blank = blank_shadow(file.content) if path == SHADOW else b""
        if blank != file.content:
            originals[path], blanked[path] = file, blank
    if not originals:
        return await engine.commit(container, reference)
    await asyncio.to_thread(
        journal.write_originals, instance_id, Originals.of(container, originals, blanked)
    )
    try:
        for path, content in blanked.items():
            old = originals[path]
            await engine.write_file(container, path, FileCopy(content, old.mode, old.uid, old.gid))
        return await engine.commit(container, reference)
    finally:
        await restore(engine, journal, instance_id)


async def restore(engine: Engine, journal: Journal, instance_id: UUID) -> None:
    """Puts back what is still blank; what its owner has written since is theirs."""
    originals = await asyncio.to_thread(journal.originals, instance_id)
    if originals is None:
        return
    if await engine.inspect(originals.container) is not None:
        for path, file in originals.copies().items():
            try:
                now = await engine.read_file(originals.container, path)
            except NotAFile:
                continue
            if now is not None and now.content.hex() == originals.blanked[path]:
                await engine.write_file(originals.container, path, file)
    await asyncio.to_thread(journal.forget_originals, instance_id)


def blank_shadow(content: bytes) -> bytes:
    """Root's hash becomes `*`: no password fits, keys still do."""
    lines = content.split(b"\n")
    for number, line in enumerate(lines):
        fields = line.split(b":")
        if fields[0] == b"root" and len(fields) > 1:
            fields[1] = b"*"
            lines[number] = b":".join(fields)
    return b"\n".join(lines)
