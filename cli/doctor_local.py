"""This machine and the state folder on it."""

import fcntl
import os
import shutil
import socket
import stat
import sys
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx

from cli.doctor_finding import Finding, fine, unknown, wrong

PYTHON = (3, 11)
LEAST_FREE_BYTES = 10 << 30
LEAST_FREE_SHARE = 0.05
MOST_SKEW_S = 5.0
DOCKER_API = (1, 41)
PORTS = {"gateway": 8080, "sftp": 2022}
PRIVATE_FOLDERS = ("sockets", "secrets", "storage", "agent")


def check_local(home: Path, docker_socket: Path, url: str) -> Iterator[Finding]:
    yield check_python()
    yield check_docker(docker_socket)
    yield check_debootstrap()
    yield check_disk(home)
    yield check_home(home)
    if not runs_here(home):
        for name, port in PORTS.items():
            yield check_port(name, port)
    yield check_clock(url)


def check_python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] >= PYTHON:
        return fine("python", found, found)
    return wrong(
        "python", (found, found), ("安装 Python 3.11 或更新的版本", "install Python 3.11 or newer")
    )


def check_docker(path: Path) -> Finding:
    cure = (
        "以 root 启动 dockerd（make run 会自动安装）；非 root 用户需加入 docker 组",
        "start dockerd as root (make run installs it); others join the group docker",
    )
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=5) as http:
            version = http.get("http://docker/version").raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        return wrong(
            "docker", (f"{path} 没有应答（{error}）", f"{path}: no answer ({error})"), cure
        )
    name, api = str(version.get("Version", "?")), str(version.get("ApiVersion", "0.0"))
    if tuple(int(n) for n in api.split(".")[:2] if n.isdigit()) < DOCKER_API:
        return wrong(
            "docker",
            (f"{name} 过旧（API {api}）", f"{name} is too old (API {api})"),
            ("升级到 Docker 20.10 或更新的版本", "upgrade to Docker 20.10 or newer"),
        )
    return fine("docker", f"{name}（API {api}）", f"{name} (API {api})")


def check_debootstrap() -> Finding:
    if shutil.which("debootstrap") is not None:
        return fine("debootstrap", "已安装", "installed")
    if os.geteuid() == 0 and shutil.which("apt-get") is not None:
        return fine("debootstrap", "需要时自动安装", "will be installed when it is needed")
    return wrong(
        "debootstrap",
        ("未安装：无镜像仓库时无法制作系统镜像", "missing: no system image without a registry"),
        ("apt-get install debootstrap", "apt-get install debootstrap"),
    )


def check_disk(home: Path) -> Finding:
    place = next(p for p in (home, *home.parents) if p.exists())
    usage, inodes = shutil.disk_usage(place), os.statvfs(place)
    free = f"{usage.free / (1 << 30):.1f} GiB"
    few_inodes = inodes.f_files > 0 and inodes.f_favail < inodes.f_files * LEAST_FREE_SHARE
    if few_inodes:
        what = (f"{place}：inode 将用尽", f"{place}: hardly any inodes left")
    else:
        what = (f"{place}：剩余 {free}", f"{place}: {free} free")
    if usage.free < LEAST_FREE_BYTES or usage.free < usage.total * LEAST_FREE_SHARE or few_inodes:
        return wrong(
            "disk",
            what,
            (
                "清理不用的镜像（docker image prune）或扩容磁盘",
                "drop unused images (docker image prune) or enlarge the disk",
            ),
        )
    return fine("disk", *what)


def runs_here(home: Path) -> bool:
    """Whether a platform holds this state folder."""
    try:
        with (home / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def check_home(home: Path) -> Finding:
    if not home.exists():
        what = (f"{home} 不存在：本机没有一体化平台", f"{home} is not there: no platform here")
        return unknown("home", what)
    try:
        modes = {home: 0o711} | {home / name: 0o700 for name in PRIVATE_FOLDERS}
        secrets = [home / "operator-password", *(home / "secrets").iterdir()]
        found = [p for p, most in modes.items() if p.exists() and _mode(p) & ~most]
        found += [p for p in secrets if p.exists() and _mode(p) & ~0o600]
    except PermissionError as error:
        what = (f"无法查看 {error.filename}", f"{error.filename} cannot be looked at")
        return unknown("home", what, ("以 root 运行", "run as root"))
    except FileNotFoundError:
        found = []
    if found:
        names = ", ".join(str(path) for path in found)
        folders, files = [p for p in found if p.is_dir()], [p for p in found if not p.is_dir()]
        words = [f"chmod {modes[p]:o} {p}" for p in folders] + [f"chmod 600 {p}" for p in files]
        cure = "; ".join(words)
        return wrong("home", (f"权限过宽：{names}", f"open to others: {names}"), (cure, cure))
    return fine("home", f"{home} 的权限正确", f"{home} is closed to others")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def check_port(name: str, port: int) -> Finding:
    about = f"port.{name}"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            what = (f"{port} 被占用（{error.strerror}）", f"{port} is taken ({error.strerror})")
            cure = (
                f"结束占用者（ss -ltnp 'sport = :{port}'），或用 --port/--sftp-port 另选",
                f"end who has it (ss -ltnp 'sport = :{port}'), or choose --port, --sftp-port",
            )
            return wrong(about, what, cure)
    return fine(about, f"{port} 空闲", f"{port} is free")


def check_clock(url: str) -> Finding:
    """Against the Date of the gateway, which has whole seconds."""
    try:
        before = time.time()
        answer = httpx.get(f"{url}/healthz", timeout=5, trust_env=False)
        middle = (before + time.time()) / 2
        theirs = parsedate_to_datetime(answer.headers["date"]).timestamp() + 0.5
    except (httpx.HTTPError, KeyError, ValueError):
        what = (f"{url} 没有应答", f"{url} does not answer")
        return unknown("clock", what)
    skew_s = middle - theirs
    what = (f"与网关相差 {skew_s:+.1f} 秒", f"{skew_s:+.1f} s from the gateway's")
    if abs(skew_s) > MOST_SKEW_S:
        return wrong("clock", what, ("启用 NTP（chrony）", "keep time with NTP (chrony)"))
    return fine("clock", *what)
