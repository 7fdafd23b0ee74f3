"""What a large download costs: 1 GiB of the net disk through the gateway, beside nginx.

The real storage service with its database stands behind the gateway on a Unix socket, nginx serves
the same file over TCP; curl reads both, interleaved.
"""

import getpass
import logging
import subprocess
from pathlib import Path

import jwt
import structlog
import uvicorn
import uvloop
from pydantic import SecretStr

from cli.up.postgres import Postgres
from services.storage.main import create_app
from services.storage.settings import StorageSettings

NGINX = 18463
FILE_BYTES = 1 << 30
NAME = "one-gib.bin"


def storage_socket(folder: Path) -> Path:
    return folder / "storage.sock"


def serve_storage(folder: Path, auth_url: str) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))

    async def serve() -> None:
        postgres = Postgres(folder / "postgres")
        await postgres.start()
        try:
            await postgres.create_database("storage")
            settings = StorageSettings(
                database_url=postgres.url("storage"),
                auth_url=auth_url,
                service_secret=SecretStr("x" * 32),
                root=folder / "storage",
            )
            socket = str(storage_socket(folder))
            config = uvicorn.Config(create_app(settings), uds=socket, log_config=None)
            await uvicorn.Server(config).serve()
        finally:
            await postgres.stop()

    uvloop.run(serve())


def start_nginx(folder: Path, files: Path) -> "subprocess.Popen[bytes]":
    """In its own folder and in the foreground; ends with SIGTERM."""
    home = folder / "nginx"
    home.mkdir()
    scratch = "".join(
        f"{kind}_temp_path {home}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (home / "nginx.conf").write_text(
        f"daemon off; user {getpass.getuser()}; worker_processes 1; pid {home}/pid;\n"
        f"error_log {home}/error.log;\nevents {{}}\n"
        f"http {{\naccess_log off; sendfile on; tcp_nopush on;\n{scratch}"
        f"server {{ listen 127.0.0.1:{NGINX}; root {files}; }}\n}}\n"
    )
    return subprocess.Popen(["nginx", "-p", home, "-c", home / "nginx.conf", "-e", home / "log"])


def upload(gateway: int, token: str, folder: Path) -> Path:
    """The file, through the front door; answers the folder that storage keeps it in."""
    source = folder / NAME
    with source.open("wb") as file:
        file.truncate(FILE_BYTES)
    url = f"http://127.0.0.1:{gateway}/api/v1/files/content?path=/{NAME}"
    _curl(token, "-o", "/dev/null", "-T", str(source), url)
    source.unlink()
    account = str(jwt.decode(token, options={"verify_signature": False})["sub"])
    return folder / "storage" / "volumes" / account / "files"


def from_gateway(gateway: int, token: str) -> float:
    """Bytes a second."""
    return _speed(token, f"http://127.0.0.1:{gateway}/api/v1/files/content?path=/{NAME}")


def from_nginx(token: str) -> float:
    """Bytes a second."""
    return _speed(token, f"http://127.0.0.1:{NGINX}/{NAME}")


def _speed(token: str, url: str) -> float:
    said = _curl(token, "-o", "/dev/null", "-w", "%{size_download} %{speed_download}", url).split()
    if int(said[0]) != FILE_BYTES:
        raise RuntimeError(f"{url} sent {said[0]} bytes")
    return float(said[1])


def _curl(token: str, *words: str) -> str:
    command = ["curl", "-sSf", "--noproxy", "*", "-H", f"Authorization: Bearer {token}", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
