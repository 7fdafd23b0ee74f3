"""What the gateway costs: requests/s and p99 of an authenticated small GET, with and without it.

The service is a small FastAPI app that checks the token itself, as every service does; service
and gateway are processes of their own, the load comes from `wrk`, the two are interleaved.
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


def serve_gateway() -> None:
    settings = GatewaySettings(
        upstreams={"auth": f"http://127.0.0.1:{SERVICE}"},
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


def wait_until_up(port: int, path: str) -> None:
    give_up = time.monotonic() + 20
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2)
        except OSError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.1)
        else:
            return


def report(name: str, unit: str, value: float, baseline: float) -> None:
    line = {"name": name, "value": round(value, 2), "unit": unit}
    print(json.dumps({**line, "baseline": round(baseline, 2), "ratio": round(value / baseline, 3)}))


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="chusuan-bench-"))
    token_file = folder / "token"
    me = [sys.executable, "-m", "bench.gateway"]
    running = [subprocess.Popen([*me, "service", str(token_file)])]
    try:
        wait_until_up(SERVICE, "/.well-known/jwks.json")
        running.append(subprocess.Popen([*me, "gateway"]))
        wait_until_up(GATEWAY, "/healthz")
        token = token_file.read_text()
        seen: dict[int, list[tuple[float, float]]] = {SERVICE: [], GATEWAY: []}
        for _ in range(ROUNDS):
            for port, results in seen.items():
                results.append(load(port, token))
        rates = {port: statistics.median(r[0] for r in runs) for port, runs in seen.items()}
        p99s = {port: statistics.median(r[1] for r in runs) for port, runs in seen.items()}
        report("gateway_get", "requests/s", rates[GATEWAY], rates[SERVICE])
        report("gateway_get_p99_ms", "ms", p99s[GATEWAY], p99s[SERVICE])
    finally:
        for process in running:
            process.terminate()
            process.wait(10)
        shutil.rmtree(folder)


if __name__ == "__main__":
    if sys.argv[1:2] == ["service"]:
        serve_service(Path(sys.argv[2]))
    elif sys.argv[1:2] == ["gateway"]:
        serve_gateway()
    else:
        main()
