#!/usr/bin/env bash
# What the tests need beyond Python: OpenSSH's client and sshpass, the stores of the split shape with
# its edge (RabbitMQ, Redis, an OCI registry, nginx; installed, neither started nor enabled: the
# tests start their own), what hosts in network namespaces need, and a Docker Engine with the system
# images `minimal` and `jupyter`. Where one cannot be had the tests that need it skip and say so.
# Those of `vscode` run where it has been built: make images
set -euo pipefail
cd "$(dirname "$0")/.."

need=()
wants() { command -v "$1" >/dev/null || need+=("$2"); }
wants ssh openssh-client
wants sshpass sshpass
wants rabbitmq-server rabbitmq-server
wants redis-server redis-server
wants docker-registry docker-registry
wants nginx nginx-light
wants curl curl
wants ip iproute2
wants iptables iptables
wants nsenter util-linux

policy=/usr/sbin/policy-rc.d
begin_quietly() {  # what gets installed does not start
    kept=
    if [ -e $policy ]; then
        kept=$(mktemp -u $policy.XXXXXX)
        mv $policy "$kept"
    fi
    trap end_quietly EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
}
end_quietly() {
    rm -f $policy
    [ -z "$kept" ] || mv "$kept" $policy
    trap - EXIT
}

if [ ${#need[@]} -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing ${need[*]} …"
    begin_quietly
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
    end_quietly
    for name in "${need[@]}"; do  # nor at the next boot
        case $name in
            rabbitmq-server | redis-server | docker-registry) unit=$name ;;
            nginx-light) unit=nginx ;;
            *) continue ;;
        esac
        ! command -v systemctl >/dev/null || systemctl disable -q "$unit" 2>/dev/null || true
    done
fi

mkdir -p .cache
if .venv/bin/python -m cli.up.docker .cache/docker.log; then
    echo "Building the system images that the tests start from, unless they are there …"
    .venv/bin/python -m agent.building deploy/images minimal jupyter >.cache/images.log 2>&1 ||
        echo "They could not be built (.cache/images.log): tests with containers will skip."
fi
