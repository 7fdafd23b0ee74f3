"""What the gateway costs.

`gateway_get`, `gateway_get_p99_ms`: requests/s and p99 of an authenticated small GET, with and
without it. The service is a small FastAPI app that checks the token itself, as every service does;
service and gateway are processes of their own, the load comes from `wrk`, the two are interleaved.

`gateway_download_1gib`: bytes a second of one large file, see `bench/download.py`.
"""

import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request
from jwt.algorithms import OKPAlgorithm
from pydantic import SecretStr

from bench import download
from gateway.main import create_app
from gateway.settings import GatewaySettings
from shared.tokens import Verifier
from tests.identity import TestIdentity

SERVICE, GATEWAY = 18461, 18462
ROUNDS, SECONDS = 3, 2


def serve_service(token_file: Path) -> None:
    identity = TestIdentity()
    app = FastAPI()
    verifier = Verifier(identity)

    @app.get("/.well-known/jwks.json")
    async def jwks() -> dict[str, object]:
        key = (await identity.fetch())["test"]
        jwk = OKPAlgorithm.to_jwk(key, as_dict=True)
        return {"keys": [{**jwk, "kid": "test", "alg": "EdDSA", "use": "sig"}]}

    @app.get("/api/v1/accounts/me")
    async def me(request: Request) -> dict[str, str]:
        caller = await verifier.verify(request.headers["authorization"].partition(" ")[2])
        return {"id": str(caller.id), "username": caller.username}

    token_file.write_text(identity.token())
    uvicorn.run(app, port=SERVICE, log_level="warning", access_log=False)


def serve_gateway(folder: Path) -> None:
    storage = f"unix:{download.storage_socket(folder)}"
    settings = GatewaySettings(
        upstreams={"auth": f"http://127.0.0.1:{SERVICE}", "storage": storage},
        service_secret=SecretStr("x" * 32),
        requests_per_minute=10**9,
    )
    uvicorn.run(create_app(settings), port=GATEWAY, log_level="warning", access_log=False)


def load(port: int, token: str) -> tuple[float, float]:
    """Requests/s and p99 in milliseconds. Raises RuntimeError when any answer is not 2xx."""
    url = f"http://127.0.0.1:{port}/api/v1/accounts/me"
    said = subprocess.run(
        [
            "wrk",
            "-t1",
            "-c16",
            f"-d{SECONDS}",
            "--latency",
            "-H",
            f"Authorization: Bearer {token}",
            url,
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", said)
    if rate is None or p99 is None or "Non-2xx" in said:
        raise RuntimeError(said)
    return float(rate[1]), float(p99[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[p99[2]]


def wait_until_up(port: int, path: str, token: str = "", method: str = "GET") -> None:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    url = f"http://127.0.0.1:{port}{path}"
    give_up = time.monotonic() + 60
    while True:
        try:
            request = urllib.request.Request(url, headers=headers, method=method)
            urllib.request.urlopen(request, timeout=2)  # noqa: S310 - the address is ours
        except OSError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.1)
        else:
            return


def report(name: str, unit: str, value: float, baseline: float) -> None:
    line = {"name": name, "value": round(value, 2), "unit": unit}
    print(json.dumps({**line, "baseline": round(baseline, 2), "ratio": round(value / baseline, 3)}))


def compare_gets(token: str) -> None:
    seen: dict[int, list[tuple[float, float]]] = {SERVICE: [], GATEWAY: []}
    for _ in range(ROUNDS):
        for port, results in seen.items():
            results.append(load(port, token))
    rates = {port: statistics.median(r[0] for r in runs) for port, runs in seen.items()}
    p99s = {port: statistics.median(r[1] for r in runs) for port, runs in seen.items()}
    report("gateway_get", "requests/s", rates[GATEWAY], rates[SERVICE])
    report("gateway_get_p99_ms", "ms", p99s[GATEWAY], p99s[SERVICE])


def compare_downloads(token: str) -> None:
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(download.from_gateway(GATEWAY, token))
        theirs.append(download.from_nginx(token))
    value, baseline = statistics.median(ours), statistics.median(theirs)
    report("gateway_download_1gib", "bytes/s", value, baseline)


def main() -> None:
    missing = [name for name in ("wrk", "nginx", "curl") if shutil.which(name) is None]
    if missing:
        sys.exit(f"Missing: {', '.join(missing)}. `make bench-gateway` as root installs them.")
    folder = Path(tempfile.mkdtemp(prefix="chusuan-bench-"))
    folder.chmod(0o711)  # PostgreSQL's own user passes
    token_file = folder / "token"
    me = [sys.executable, "-m", "bench.gateway"]
    running = [subprocess.Popen([*me, "service", str(token_file)])]
    try:
        wait_until_up(SERVICE, "/.well-known/jwks.json")
        running.append(subprocess.Popen([*me, "gateway", str(folder)]))
        wait_until_up(GATEWAY, "/healthz")
        token = token_file.read_text()
        compare_gets(token)
        running.append(subprocess.Popen([*me, "storage", str(folder)]))
        while not download.storage_socket(folder).exists():
            time.sleep(0.1)
        wait_until_up(GATEWAY, "/api/v1/files?path=/", token)
        files = download.upload(GATEWAY, token, folder)
        running.append(download.start_nginx(folder, files))
        wait_until_up(download.NGINX, f"/{download.NAME}", method="HEAD")
        compare_downloads(token)
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait(20)
        shutil.rmtree(folder)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["service", token_file]:
            serve_service(Path(token_file))
        case ["storage", folder]:
            download.serve_storage(Path(folder), f"http://127.0.0.1:{SERVICE}")
        case ["gateway", folder]:
            serve_gateway(Path(folder))
        case _:
            main()
