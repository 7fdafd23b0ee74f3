#!/usr/bin/env bash
# What the tests need beyond Python: OpenSSH's client and sshpass, and a Docker Engine with a small
# image for the agent's tests. Where Docker cannot be had those tests skip and say so.
set -euo pipefail
cd "$(dirname "$0")/.."

need=()
command -v ssh >/dev/null || need+=(openssh-client)
command -v sshpass >/dev/null || need+=(sshpass)
command -v debootstrap >/dev/null || need+=(debootstrap)
if [ ${#need[@]} -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing ${need[*]} …"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
fi

mkdir -p .cache
image() { docker image inspect chusuan-test/agent >/dev/null 2>&1; }
if .venv/bin/python -m cli.up.docker .cache/docker.log && ! image; then
    echo "Building the agent tests' image …"
    tests/service/agent/image/build.sh .cache/agent-base >.cache/agent-image.log 2>&1 ||
        echo "It could not be built (.cache/agent-image.log): the agent's Docker tests will skip."
fi
