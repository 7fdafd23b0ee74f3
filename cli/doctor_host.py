"""A GPU host: driver, container toolkit, cgroups, firewall, net disk.

root: where `/proc`, `/sys` and `/etc` are looked up.
"""

import os
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

from cli.doctor_finding import Finding, fine, unknown, wrong

TOOLKIT_CONFIG = "etc/nvidia-container-runtime/config.toml"
TOOLKIT_KEY = "accept-nvidia-visible-devices-envvar-when-unprivileged"
CONTROLLERS = ("cpu", "memory", "pids")
COMMAND_S = 10


def check_host(root: Path, netdisk: Path) -> Iterator[Finding]:
    yield check_driver(root)
    yield check_toolkit(root)
    yield check_cgroups(root)
    yield check_iptables()
    yield check_bridge(root)
    yield check_forwarding(root)
    yield check_netdisk(netdisk)


def check_driver(root: Path) -> Finding:
    try:
        words = (root / "proc/driver/nvidia/version").read_text().splitlines()[0]
    except (OSError, IndexError):
        return wrong(
            "driver", ("没有 NVIDIA 驱动", "no NVIDIA driver is loaded"),
            (
                "安装驱动并重启；没有 GPU 的机器只能提供模拟主机",
                "install it and restart; a machine without GPUs offers simulated hosts only",
            ),
        )  # fmt: skip
    return fine("driver", words, words)


def check_toolkit(root: Path) -> Finding:
    path = root / TOOLKIT_CONFIG
    cure = (f"在 {path} 中设置 {TOOLKIT_KEY} = false", f"set {TOOLKIT_KEY} = false in {path}")
    try:
        config = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return wrong(
            "toolkit", (f"{path} 不存在", f"{path} is not there"),
            ("安装 nvidia-container-toolkit", "install nvidia-container-toolkit"),
        )  # fmt: skip
    except (OSError, ValueError) as error:
        return wrong("toolkit", (f"{path}：{error}", f"{path}: {error}"), cure)
    if config.get(TOOLKIT_KEY, True):
        what = ("任何镜像都能要求全部 GPU", "any image may ask for every card")
        return wrong("toolkit", what, cure)
    return fine("toolkit", "镜像不能自行要求 GPU", "images cannot ask for cards themselves")


def check_cgroups(root: Path) -> Finding:
    base = root / "sys/fs/cgroup"
    needed: tuple[str, ...]
    try:
        has = set((base / "cgroup.controllers").read_text().split())
        version, needed = "v2", CONTROLLERS
    except OSError:
        has = {path.name for path in base.iterdir()} if base.is_dir() else set()
        has |= {part for name in has for part in name.split(",")}
        version, needed = "v1", (*CONTROLLERS, "devices")
    missing = [name for name in needed if name not in has]
    if missing:
        names = ", ".join(missing)
        return wrong(
            "cgroup", (f"{version} 缺少 {names}", f"{version} lacks {names}"),
            (
                "在内核启动参数中启用，如 cgroup_enable=memory",
                "enable it at the kernel's command line, as cgroup_enable=memory",
            ),
        )  # fmt: skip
    return fine("cgroup", version, version)


def check_iptables() -> Finding:
    if shutil.which("iptables") is None:
        return wrong(
            "iptables", ("未安装：容器能访问本机", "missing: containers reach this host"),
            ("apt-get install iptables", "apt-get install iptables"),
        )  # fmt: skip
    if os.geteuid() != 0:
        return unknown("iptables", ("需要 root", "needs root"), ("以 root 运行", "run as root"))
    for chain in ("DOCKER-USER", "CHUSUAN-EGRESS", "CHUSUAN-INPUT"):
        found = subprocess.run(
            ["iptables", "-w", "5", "-n", "-L", chain],
            check=False, capture_output=True, timeout=COMMAND_S,
        )  # fmt: skip
        if found.returncode != 0:
            return wrong(
                "iptables", (f"没有链 {chain}", f"chain {chain} does not stand"),
                (
                    "启动 Docker 与 agent；agent 需要 root",
                    "start Docker and the agent, which needs root",
                ),
            )  # fmt: skip
    return fine("iptables", "规则已生效", "the rules stand")


def check_bridge(root: Path) -> Finding:
    """Without it, containers on one bridge reach one another past the rules."""
    path = root / "proc/sys/net/bridge/bridge-nf-call-iptables"
    cure = (
        "modprobe br_netfilter; sysctl -w net.bridge.bridge-nf-call-iptables=1",
        "modprobe br_netfilter; sysctl -w net.bridge.bridge-nf-call-iptables=1",
    )
    return _is_one("bridge", path, cure)


def check_forwarding(root: Path) -> Finding:
    words = "sysctl -w net.ipv4.ip_forward=1"
    return _is_one("ip_forward", root / "proc/sys/net/ipv4/ip_forward", (words, words))


def _is_one(about: str, path: Path, cure: tuple[str, str]) -> Finding:
    try:
        value = path.read_text().strip()
    except OSError:
        return wrong(about, (f"{path} 不存在", f"{path} is not there"), cure)
    if value != "1":
        return wrong(about, (f"{path} = {value}", f"{path} = {value}"), cure)
    return fine(about, "已开启", "is on")


def check_netdisk(netdisk: Path) -> Finding:
    """A mount that hangs is asked by a program that can be left behind."""
    cure = (
        f"挂载网盘到 {netdisk}，或在 CHUSUAN_AGENT_NETDISK_ROOT 中指定",
        f"mount the net disk at {netdisk}, or name it in CHUSUAN_AGENT_NETDISK_ROOT",
    )
    try:
        asked = subprocess.run(
            ["stat", "-f", "-c", "%T", str(netdisk)],
            check=False, capture_output=True, text=True, timeout=COMMAND_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return wrong("netdisk", (f"{netdisk} 无响应", f"{netdisk} hangs"), cure)
    if asked.returncode != 0:
        return wrong("netdisk", (f"{netdisk} 不存在", f"{netdisk} is not there"), cure)
    if not os.access(netdisk, os.W_OK):
        return wrong("netdisk", (f"{netdisk} 不可写", f"{netdisk} cannot be written"), cure)
    kind = asked.stdout.strip()
    return fine("netdisk", f"{netdisk}（{kind}）", f"{netdisk} ({kind})")
