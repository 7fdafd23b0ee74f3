#!/usr/bin/env bash
# The tests' own image: Debian with sshd and the smallest entrypoint that keeps the contract
# between agent and images. Needs root, debootstrap and Docker; the system is cached in $1.
set -euo pipefail
cache=${1:-/tmp/agent-base}
here=$(cd "$(dirname "$0")" && pwd)

if ! docker image inspect chusuan-test/base >/dev/null 2>&1; then
    if ! [ -f "$cache/.complete" ]; then
        rm -rf "$cache"
        debootstrap --variant=minbase --include=openssh-server,tmux,libpam-modules \
            bookworm "$cache" >/dev/null
        rm -rf "$cache"/var/cache/apt/archives/*.deb
        touch "$cache/.complete"
    fi
    tar -C "$cache" --exclude=./.complete -c . | docker import - chusuan-test/base >/dev/null
fi
docker build -q -t chusuan-test/agent "$here"
