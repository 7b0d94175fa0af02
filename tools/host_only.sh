#!/usr/bin/env bash
# Shows that the host has nothing to decrypt with: installs it as an operator would, from wheels into an empty
# environment, then imports its entry point (must work) and everything with a cipher in it (must fail).
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
pip_options=(--disable-pip-version-check --no-input -qq)

echo 'building the wheels of ephemeralml-protocol and ephemeralml-host …'
.venv/bin/python -m pip "${pip_options[@]}" wheel --no-deps --no-build-isolation --wheel-dir "$scratch/wheels" . ./services/host
echo 'installing them into an empty environment …'
.venv/bin/python -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip "${pip_options[@]}" install --progress-bar off -c constraints.txt "$scratch"/wheels/*.whl

# -I: neither this checkout nor the user's packages are on sys.path.
in_host() { (cd "$scratch" && ./venv/bin/python -I -c "$1"); }

in_host 'import ephemeral_host.__main__' || {
    echo 'the host does not start without the ciphers' >&2
    exit 1
}
echo 'imports: ephemeral_host.__main__'
for module in ephemeral.trusted.channel cryptography pyhpke cbor2 nacl Crypto OpenSSL; do
    if in_host "import $module" 2>/dev/null; then
        echo "the host can import $module" >&2
        exit 1
    fi
    echo "refused: $module"
done
