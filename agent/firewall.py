"""What containers may not reach: the host itself, cloud metadata, and on wish private networks.

Each chain is replaced whole and atomically; doing it again changes nothing. Replies to connections
from outside, as through published ports, pass.
"""

import asyncio
import shutil
import tempfile

import structlog

log = structlog.get_logger(__name__)

METADATA = ("169.254.0.0/16", "100.100.100.200/32")
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
INPUT_CHAIN, EGRESS_CHAIN = "CHUSUAN-INPUT", "CHUSUAN-EGRESS"


def rules(*, deny_private_egress: bool) -> str:
    """Input of `iptables-restore --noflush`: both chains, whole."""
    lines = ["*filter", f":{INPUT_CHAIN} - [0:0]", f":{EGRESS_CHAIN} - [0:0]"]
    lines += [
        f"-A {INPUT_CHAIN} -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN",
        f"-A {INPUT_CHAIN} -j DROP",
    ]
    lines += [f"-A {EGRESS_CHAIN} -d {network} -j DROP" for network in METADATA]
    if deny_private_egress:
        lines += [
            f"-A {EGRESS_CHAIN} -d {network} -m conntrack --ctstate NEW -j DROP"
            for network in PRIVATE
        ]
    return "\n".join([*lines, "COMMIT", ""])


async def apply(bridge: str, *, deny_private_egress: bool) -> bool:
    """False, with a line in the log that names the cure, where the rules do not stand."""
    if shutil.which("iptables") is None:
        log.warning(
            "firewall_missing", cure="install iptables: containers can reach this host until then"
        )
        return False
    ok, words = await _run(
        ["iptables-restore", "-w", "5", "--noflush"], rules(deny_private_egress=deny_private_egress)
    )
    jumps = (("INPUT", INPUT_CHAIN), ("DOCKER-USER", EGRESS_CHAIN))
    for parent, chain in jumps if ok else ():
        jump = ["-i", bridge, "-j", chain]
        stands, _ = await _run(["iptables", "-w", "5", "-C", parent, *jump])
        if not stands:
            ok, words = await _run(["iptables", "-w", "5", "-I", parent, "1", *jump])
            if not ok:
                break
    if not ok:
        log.warning("firewall_refused", error=words, cure="run the agent as root with NET_ADMIN")
    return ok


async def _run(command: list[str], text: str = "") -> tuple[bool, str]:
    # A file, not a pipe: writing to a program that has already ended is an error of uvloop's own.
    with tempfile.TemporaryFile() as words:
        words.write(text.encode())
        words.seek(0)
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=words,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, error = await process.communicate()
    return process.returncode == 0, error.decode(errors="replace").strip()[:300]
