"""The main job, step by step, with the commands a person would type. Ends with 1 at a surprise."""

import json
import os
import secrets
import shlex
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

URL = os.environ.get("CHUSUAN_URL", "http://127.0.0.1:8080")
HOME = Path(os.environ.get("CHUSUAN_HOME", "/var/lib/chusuan"))
SFTP_PORT = os.environ.get("CHUSUAN_SFTP_PORT", "2022")
STEP_TIMEOUT_S = 1800
IMAGE_TIMEOUT_S = 1800
APP_TIMEOUT_S = 60
CONTENT = "lung nodule\n" * 1000


class Surprise(Exception):
    """A step did not see what it should."""


class Person:
    """Someone with a configuration folder, so a login, of their own."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._environment = {**os.environ, "XDG_CONFIG_HOME": str(folder), "CHUSUAN_URL": URL}

    def chusuan(self, *words: str, stdin: str | None = None) -> str:
        print(f"\n{self.name}$ chusuan {shlex.join(words)}", flush=True)
        return self._run([sys.executable, "-m", "cli.main", *words], stdin, show=True)

    def ask(self, *words: str) -> Any:
        """The JSON of a command; not shown."""
        return json.loads(
            self._run([sys.executable, "-m", "cli.main", "--json", *words], None, show=False)
        )

    def type(self, *words: str, stdin: str | None = None) -> str:
        print(f"\n{self.name}$ {shlex.join(words)}", flush=True)
        return self._run(list(words), stdin, show=True)

    def _run(self, command: list[str], stdin: str | None, *, show: bool) -> str:
        done = subprocess.run(
            command,
            input=stdin or "",
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment,
            timeout=STEP_TIMEOUT_S,
            check=False,
        )
        if show and done.stdout:
            print(done.stdout, end="", flush=True)
        if done.returncode != 0:
            raise Surprise(f"{shlex.join(command)} ended with {done.returncode}\n{done.stdout}")
        return done.stdout


def see(output: str, expected: str) -> None:
    if expected not in output:
        raise Surprise(f"expected {expected!r} in {output!r}")
    print(f"  ✓ saw {expected!r}", flush=True)


def open_account(operator: Person, user: Person) -> str:
    """Registered, approved, with money; the username."""
    username = f"demo{secrets.token_hex(4)}"
    password = secrets.token_urlsafe(16)
    admin_password = (HOME / "operator-password").read_text()
    operator.chusuan("login", "admin", "--password-stdin", stdin=admin_password)
    user.chusuan(
        "register", username, "--email", f"{username}@example.org", "--phone", "13800138000",
        "--organisation", "湖北医疗器械", "--purpose", "肺结节检测算法研发", "--password-stdin",
        stdin=f"{password}\n",
    )  # fmt: skip
    operator.chusuan("approve", username)
    operator.chusuan("credit", username, "100.00", "--note", "demo")
    user.chusuan("login", username, "--password-stdin", stdin=f"{password}\n")
    see(user.chusuan("whoami"), "active")
    return username


def bring_data(user: Person, username: str, folder: Path) -> Path:
    """A key and a file on the net disk, seen by stock sftp; the private key."""
    key = folder / "id_ed25519"
    user.type("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    user.chusuan("keys", "add", f"{key}.pub", "--name", "demo")
    data = folder / "scan.txt"
    data.write_text(CONTENT)
    user.chusuan("cp", str(data), "net:/")
    see(user.chusuan("ls"), "scan.txt")
    host = urlsplit(URL).hostname or "127.0.0.1"
    listing = user.type(
        "sftp", "-q", "-i", str(key), "-P", SFTP_PORT, "-o", "IdentitiesOnly=yes",
        "-o", "StrictHostKeyChecking=accept-new", "-o", f"UserKnownHostsFile={folder}/known_hosts",
        "-b", "-", f"{username}@{host}", stdin="ls -l\n",
    )  # fmt: skip
    see(listing, "scan.txt")
    return key


def await_image(user: Person, name: str) -> None:
    """A fresh platform builds its system images first; `minimal` takes a minute or two."""
    shown = ""
    deadline = time.monotonic() + IMAGE_TIMEOUT_S
    while True:
        found = [i for i in user.ask("images", "--tab", "system")["items"] if i["name"] == name]
        status = found[0]["status"] if found else "unknown"
        if status == "ready":
            return
        if status == "failed" or time.monotonic() > deadline:
            raise Surprise(f"the image {name} is {status}: {found}")
        words = f"  … the image {name} is {status}: {found[0]['message'] or 'waiting'}"
        if words != shown:
            shown = words
            print(words[:100], flush=True)
        time.sleep(2)


def work_inside(user: Person, key: Path) -> None:
    await_image(user, "minimal")
    user.chusuan("market", "--gpus", "1")
    offer = offer_with_a_gpu(user)
    user.chusuan(
        "rent", offer, "--gpus", "1", "--image", "minimal", "--name", "demo",
        "--env", "STUDY=LIDC",
    )  # fmt: skip
    see(inside(user, key, "demo", "wc -c < /root/netdisk/scan.txt"), str(len(CONTENT)))
    see(inside(user, key, "demo", "echo $STUDY"), "LIDC")
    see(inside(user, key, "demo", "tmux -V"), "tmux")
    inside(user, key, "demo", "echo kept > /root/mark")
    see(user.chusuan("stop", "demo"), "stopped")
    see(user.chusuan("start", "demo", "--no-card"), "no card")
    see(inside(user, key, "demo", "cat /run/chusuan/mode"), "cpu")
    user.chusuan("stop", "demo")
    user.chusuan("save", "demo", "demo-image")
    see(user.chusuan("images", "--tab", "mine"), "demo-image")
    user.chusuan("rent", offer, "--image", "demo-image", "--name", "demo-2")
    see(inside(user, key, "demo-2", "cat /root/mark"), "kept")


def offer_with_a_gpu(user: Person) -> str:
    offers = user.ask("market", "--gpus", "1")["items"]
    offer = next((o for o in offers if o["status"] == "rentable"), None)
    if offer is None:
        raise Surprise("no host has a free GPU")
    return str(offer["name"])


def open_lab(user: Person) -> None:
    """JupyterLab through the gateway, as a browser would open it."""
    await_image(user, "jupyter")
    user.chusuan("rent", offer_with_a_gpu(user), "--image", "jupyter", "--name", "demo-lab")
    url = user.chusuan("open", "demo-lab", "--app", "jupyterlab").strip()
    print(f"\nuser's browser opens {url}", flush=True)
    browser = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor()
    )
    see(page_of(browser, url), "JupyterLab")


def page_of(browser: urllib.request.OpenerDirector, url: str) -> str:
    """The page, once the app answers: it starts after SSH, and until then a page says so."""
    deadline = time.monotonic() + APP_TIMEOUT_S
    while True:
        try:
            with browser.open(url, timeout=30) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            if error.code not in (502, 503) or time.monotonic() > deadline:
                raise Surprise(f"{url}: {error}") from error
            # The ticket is spent: the cookie opens the address from now on.
            url = error.url or url
        time.sleep(1)


def inside(user: Person, key: Path, instance: str, command: str) -> str:
    return user.chusuan("ssh", instance, "-i", str(key), "--", command)


def settle(user: Person) -> None:
    for name in ("demo", "demo-2", "demo-lab"):
        see(user.chusuan("release", name, "--yes"), "released")
    user.chusuan("bill")
    segments = len(user.ask("bill")["items"])
    if segments != 4:
        raise Surprise(f"expected 4 bills (GPU, no card, from the image, lab), saw {segments}")
    user.chusuan("wallet")


def clear(user: Person) -> None:
    """After a surprise: nothing of this run stays rented."""
    try:
        for instance in user.ask("ps")["items"]:
            user.chusuan("release", instance["id"], "--yes", "--no-wait")
    except (Surprise, subprocess.TimeoutExpired) as error:
        print(f"Could not clear up: {error}", file=sys.stderr)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="chusuan-demo-") as name:
        folder = Path(name)
        operator = Person("operator", folder / "operator")
        user = Person("user", folder / "user")
        try:
            username = open_account(operator, user)
            key = bring_data(user, username, folder)
            work_inside(user, key)
            open_lab(user)
            settle(user)
        except (Surprise, OSError, subprocess.TimeoutExpired) as error:
            print(f"\nThe demo stopped: {error}", file=sys.stderr)
            clear(user)
            sys.exit(1)
    print("\nThe main job works from registration to release.")


if __name__ == "__main__":
    main()
