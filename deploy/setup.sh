#!/usr/bin/env bash
# Environment and dependencies from the lock, into the project's own folder. Quick when done before.
set -euo pipefail
cd "$(dirname "$0")/.."

stamp=.venv/.installed-from
wanted=$(cat requirements.lock pyproject.toml | sha256sum)
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && exit 0

python=${PYTHON:-python3}
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing Debian's python3-venv …"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            python3 python3-venv ca-certificates >/dev/null
    else
        echo "Python's venv module is missing: install python3-venv and try again." >&2
        exit 1
    fi
fi
if ! [ -x .tools/bin/uv ]; then
    echo "Installing uv into .tools …"
    "$python" -m venv .tools
    .tools/bin/pip install -q --disable-pip-version-check 'uv==0.13.9'
fi
echo "Installing dependencies from the lock into .venv …"
[ -x .venv/bin/python ] || .tools/bin/uv venv -q --python "$python" .venv
export VIRTUAL_ENV=$PWD/.venv
.tools/bin/uv pip sync -q --require-hashes requirements.lock
.tools/bin/uv pip install -q --no-deps -e .
echo "$wanted" >"$stamp"
