"""How long from the rent call to SSH's banner, beside bare `docker create` and `docker start`.

Starts a platform of its own; needs this machine's Docker Engine. The two are interleaved, so that
what else the machine does falls on both. Prints one JSON object.
"""

import asyncio
import json
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.platform import EmbeddedPlatform, system_image

ROUNDS = int(os.environ.get("CHUSUAN_BENCH_ROUNDS", "20"))
LIMIT_S = 120.0
POLL_S = 0.005


def log_in(http: httpx.Client, username: str, password: str) -> dict[str, str]:
    answer = http.post("/sessions", json={"username": username, "password": password})
    return {"authorization": f"Bearer {answer.raise_for_status().json()['access_token']}"}


def open_account(http: httpx.Client, operator_password: str) -> None:
    """A fresh account, approved and with money; `http` then acts for it."""
    username, password = f"bench{secrets.token_hex(4)}", secrets.token_urlsafe(16)
    person = {
        "username": username, "email": f"{username}@example.org", "phone": "13800138000",
        "organisation": "bench", "purpose": "rent_to_ssh", "password": password,
    }  # fmt: skip
    account = http.post("/accounts", json=person).raise_for_status().json()["id"]
    operator = log_in(http, "admin", operator_password)
    http.post(f"/accounts/{account}/approve", json={}, headers=operator).raise_for_status()
    credit = {"amount": "1000.00", "note": "bench"}
    http.post(f"/wallets/{account}/credits", json=credit, headers=operator).raise_for_status()
    http.headers.update(log_in(http, username, password))


def answers_ssh(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1) as door:
            return door.recv(4) == b"SSH-"
    except OSError:
        return False


def rented(http: httpx.Client, image: str) -> float:
    """Seconds for one instance, which is then released and gone."""
    offers = http.get("/offers", params={"gpu_count": 1}).raise_for_status().json()["items"]
    offer = next(o for o in offers if o["gpu_free"] > 0)
    body = {
        "offer_id": offer["id"], "gpu_count": 1, "image_id": image, "billing": "payg", "env": {},
    }  # fmt: skip
    started = time.perf_counter()
    key = {"idempotency-key": secrets.token_hex(16)}
    instance = http.post("/instances", json=body, headers=key).raise_for_status().json()
    path = f"/instances/{instance['id']}"
    try:
        while True:
            door = instance["ssh"]
            if door and answers_ssh(door["host"], door["port"]):
                return time.perf_counter() - started
            if time.perf_counter() - started > LIMIT_S:
                raise TimeoutError(f"no SSH banner after {LIMIT_S} s: {instance}")
            time.sleep(POLL_S)
            if not door:
                instance = http.get(path).raise_for_status().json()
    finally:
        http.post(f"{path}/release", json={}).raise_for_status()
        deadline = time.monotonic() + LIMIT_S
        while http.get(path).raise_for_status().json()["status"] != "released":
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} was not released in {LIMIT_S} s")
            time.sleep(0.1)


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def bare(image: str, secrets_folder: Path) -> float:
    """Seconds for the same image by Docker alone."""
    port = free_port()
    started = time.perf_counter()
    container = docker(
        "create", "--init", "-p", f"127.0.0.1:{port}:22",
        "-v", f"{secrets_folder}:/run/chusuan:ro", image,
    )  # fmt: skip
    try:
        docker("start", container)
        while not answers_ssh("127.0.0.1", port):
            if time.perf_counter() - started > LIMIT_S:
                raise TimeoutError(f"no SSH banner after {LIMIT_S} s: {docker('logs', container)}")
            time.sleep(POLL_S)
        return time.perf_counter() - started
    finally:
        docker("rm", "-f", "-v", container)


def throw_away_secrets() -> Path:
    """What the agent would put at /run/chusuan, for nobody."""
    folder = Path(tempfile.mkdtemp(prefix="chusuan-bench-"))
    key = folder / "ssh_host_ed25519_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    for name, content in {
        "authorized_keys": "",
        "password_hash": "*",
        "env": "",
        "app_token": secrets.token_hex(16),
        "app_base_url": "/apps/bench/",
        "mode": "cpu",
    }.items():
        (folder / name).write_text(content)
    return folder


def measure(url: str, operator_password: str, image: dict[str, Any]) -> None:
    folder = throw_away_secrets()
    ours, theirs = [], []
    try:
        with httpx.Client(base_url=f"{url}/api/v1", timeout=60, trust_env=False) as http:
            open_account(http, operator_password)
            for _ in range(ROUNDS):
                ours.append(rented(http, image["id"]))
                theirs.append(bare(image["address"], folder))
    finally:
        shutil.rmtree(folder)
    value, baseline = statistics.median(ours), statistics.median(theirs)
    answer = {
        "name": "rent_to_ssh",
        "value": round(value, 4),
        "unit": "s",
        "baseline": round(baseline, 4),
        "ratio": round(value / baseline, 3),
    }
    print(json.dumps(answer))


async def main() -> None:
    platform = EmbeddedPlatform(Path(tempfile.mkdtemp(prefix="chusuan-bench-")), ("minimal",))
    try:
        await platform.start()
        image = await system_image(platform, "minimal")
        await asyncio.to_thread(measure, platform.url, platform.operator_password, image)
    finally:
        await platform.clear()


if __name__ == "__main__":
    asyncio.run(main())
