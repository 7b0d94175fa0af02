#!/usr/bin/env bash
# Writes ephemeral/generated from proto/. With --check, writes nothing and fails if what is committed differs.
# The generators need an older protobuf than the code they write, so they live in .venv-generate.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv-generate
stamp=$venv/setup.sha256
wanted=$({ pwd; grep '^generate = ' pyproject.toml; cat tools/generate.sh; } | sha256sum)
if [[ ! -f $stamp || $(<"$stamp") != "$wanted" ]]; then
    echo "making $venv …" >&2
    .venv/bin/python -m venv --clear "$venv"
    pip=("$venv/bin/python" -m pip --disable-pip-version-check --no-input install -qq --progress-bar off)
    "${pip[@]}" "$(grep '^pip==' constraints.txt)"
    "${pip[@]}" --group generate
    echo "$wanted" >"$stamp"
fi
export PATH="$PWD/$venv/bin:$PATH" # buf.gen.yaml asks for "python"

if [[ ${1:-} == --check ]]; then
    fresh=$(mktemp -d)
    trap 'rm -rf "$fresh"' EXIT
    buf generate --output "$fresh"
    diff --recursive --brief --exclude=__pycache__ "$fresh/ephemeral/generated" ephemeral/generated || {
        echo 'ephemeral/generated does not match proto/: run "make generate" and commit the result' >&2
        exit 1
    }
else
    buf generate
fi
