#!/usr/bin/env bash
# Makes .venv: the five distributions, editable, with the developer's tools, at the releases of constraints.txt.
# Does nothing when it has already been done for the same inputs.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
members=(clients/python services/host services/enclave infra/devstack)
stamp=.venv/setup.sha256

fail() {
    printf 'setup: %s\n' "$1" >&2
    exit 1
}

command -v "$python" >/dev/null || fail "Python 3.11 or newer is needed, and there is no '$python'; name one with PYTHON=…"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    fail "Python 3.11 or newer is needed, and '$python' is $("$python" -V 2>&1); name another with PYTHON=…"
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "'$python' cannot make virtual environments: install python3-venv first"

inputs() {
    pwd
    "$python" -V
    cat constraints.txt pyproject.toml "${members[@]/%//pyproject.toml}" tools/setup.sh
}
wanted=$(inputs | sha256sum)
if [[ -f $stamp && $(<"$stamp") == "$wanted" ]]; then
    exit 0
fi

pip=(.venv/bin/python -m pip --disable-pip-version-check --no-input install -qq --progress-bar off -c constraints.txt)

echo '[1/4] making .venv …'
"$python" -m venv .venv
"${pip[@]}" pip
# torch goes first and alone: pip then takes a CPU build if its configuration knows one, and nothing later replaces it.
echo '[2/4] installing PyTorch (CPU) …'
"${pip[@]}" torch
echo "[3/4] installing the developer's tools …"
"${pip[@]}" --group dev
# The build backend is among the tools, at its pinned release: no unpinned one is fetched for an isolated build.
echo '[4/4] installing the five distributions and what they need …'
"${pip[@]}" --no-build-isolation -e . "${members[@]/#/--editable=}"
.venv/bin/python -m pip --disable-pip-version-check check >/dev/null || fail 'the environment is inconsistent: .venv/bin/pip check'
echo "$wanted" >"$stamp"
echo 'ready: .venv'
