#!/usr/bin/env bash
# Makes this machine a GPU host of a platform, or brings the agent on it up to date. As root:
#
#   deploy/agent/install.sh [--join TOKEN] [--wheel FILE] [CHUSUAN_AGENT_<FIELD>=VALUE ...]
#
# TOKEN: of `chusuan nodes invite`; needed once. FILE: a wheel of chusuan instead of this checkout.
# Fields are added to /etc/chusuan/agent.env unless they are there. Nothing there is overwritten.
# ROOT=/some/folder installs below that folder and starts nothing: for images of hosts.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=${ROOT:-}
home=$root/opt/chusuan
etc=$root/etc/chusuan
token='' wheel='' fields=()

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

while [ $# -gt 0 ]; do
    case $1 in
    --join) token=${2:?--join needs a token} && shift 2 ;;
    --wheel) wheel=$(realpath "${2:?--wheel needs a file}") && shift 2 ;;
    CHUSUAN_AGENT_*=*) fields+=("$1") && shift ;;
    *) fail "unknown word '$1': see the head of this file" ;;
    esac
done

[ "$(id -u)" = 0 ] || fail "needs root: it writes a unit and the agent uses Docker's socket"
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "needs Python 3.11 or newer"
if [ -z "$root" ]; then
    command -v docker >/dev/null || fail "no Docker: install docker-ce or Debian's docker.io first"
    command -v iptables >/dev/null || fail "no iptables: instances could reach this host without it"
    docker info >/dev/null 2>&1 || fail "Docker does not answer: systemctl start docker"
fi

mkdir -p "$home"
if [ -n "$wheel" ]; then
    [ -x "$home/.venv/bin/python" ] || "$python" -m venv "$home/.venv"
    "$home/.venv/bin/pip" install -q --disable-pip-version-check --upgrade "$wheel"
    mkdir -p "$home/deploy/agent"
    cp "$here"/* "$home/deploy/agent/"
elif [ "$(realpath "$here/../..")" != "$(realpath "$home")" ]; then
    # Only what runs: no history, no environment of another place.
    tar -C "$here/../.." -cf - --exclude=__pycache__ \
        agent cli gateway services shared deploy pyproject.toml README.md requirements.lock |
        tar -C "$home" --no-same-owner -xf -
    PYTHON=$python "$home/deploy/setup.sh"
else
    PYTHON=$python "$home/deploy/setup.sh"
fi

install -d -m 0700 "$etc" "$etc/secrets" "$root/var/lib/chusuan/agent"
install -d -m 0755 "$root/var/lib/chusuan/netdisk" "$root/etc/docker/certs.d"
[ -e "$etc/agent.env" ] || install -m 0600 "$here/agent.env" "$etc/agent.env"
for field in "${fields[@]}"; do
    grep -q "^${field%%=*}=" "$etc/agent.env" || printf '%s\n' "$field" >>"$etc/agent.env"
done
if [ -n "$token" ]; then
    (umask 077 && printf '%s\n' "$token" >"$etc/secrets/chusuan_agent_join")
fi

install -D -m 0644 "$here/chusuan-agent.service" "$root/etc/systemd/system/chusuan-agent.service"
if [ -n "$root" ] || [ ! -d /run/systemd/system ]; then
    echo "Installed. Start it with: systemctl enable --now chusuan-agent"
    exit 0
fi
systemctl daemon-reload
systemctl enable chusuan-agent
systemctl restart chusuan-agent
echo "Started. What it says: journalctl -fu chusuan-agent. On the platform: chusuan nodes list"
