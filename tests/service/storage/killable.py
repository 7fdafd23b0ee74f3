"""Storage with its door in a process of its own, to be killed: `killable DATABASE_URL ROOT`.

Prints the port. One account may enter, known by the arguments `ACCOUNT_ID NAME PASSWORD`.
"""

import asyncio
import sys
from pathlib import Path
from uuid import UUID

from pydantic import SecretStr

from services.storage.clients.auth import FakeAuth, KnownAccount
from services.storage.main import create_app
from services.storage.settings import StorageSettings
from shared.tokens import AccountStatus


async def main(database_url: str, root: str, account_id: str, name: str, password: str) -> None:
    known = KnownAccount(
        account_id=UUID(account_id), username=name, status=AccountStatus.active, ssh_keys=[]
    )
    app = create_app(
        StorageSettings(
            database_url=database_url,
            bus_url="memory://killable",
            auth_url="http://127.0.0.1:1",
            service_secret=SecretStr("s" * 32),
            root=Path(root),
            sftp_port=0,
        ),
        auth=FakeAuth({name: known}, {name: password}),
    )
    async with app.router.lifespan_context(app):
        sys.stdout.write(f"port {app.state.sftp_door.port}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
