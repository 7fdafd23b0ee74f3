#!/usr/bin/env bash
# What the tests need beyond Python: OpenSSH's client and sshpass, RabbitMQ and Redis (installed, not
# started: the tests start their own), and a Docker Engine with the system images `minimal` and
# `jupyter`. Where one cannot be had the tests that need it skip and say so. Those of `vscode` run
# where it has been built: make images
set -euo pipefail
cd "$(dirname "$0")/.."

need=()
command -v ssh >/dev/null || need+=(openssh-client)
command -v sshpass >/dev/null || need+=(sshpass)
[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || need+=(rabbitmq-server)
command -v redis-server >/dev/null || need+=(redis-server)
if [ ${#need[@]} -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing ${need[*]} …"
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap 'rm -f $policy' EXIT
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
fi

mkdir -p .cache
if .venv/bin/python -m cli.up.docker .cache/docker.log; then
    echo "Building the system images that the tests start from, unless they are there …"
    .venv/bin/python -m agent.building deploy/images minimal jupyter >.cache/images.log 2>&1 ||
        echo "They could not be built (.cache/images.log): tests with containers will skip."
fi
