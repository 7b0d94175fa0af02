#!/usr/bin/env bash
# Fuzzes every parser that sees hostile bytes, or those named: tools/fuzz.sh [NAME…]
# FUZZ_SECONDS is the time for each (20). What was learnt is kept in .fuzz/, findings in .fuzz/findings/.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${FUZZ_SECONDS:-20}
site=$PWD/.venv-fuzz
state=$PWD/.fuzz
findings=$state/findings

# atheris is kept out of .venv: nothing else may come to need it, and it lays its own libFuzzer under the process.
if [[ ! -d $site/atheris ]]; then
    echo 'installing atheris into .venv-fuzz …'
    .venv/bin/python -m pip --disable-pip-version-check --no-input install -qq --target "$site" --group fuzz
fi

targets=("$@")
if ((!$#)); then
    mapfile -t targets < <(.venv/bin/python -c 'from fuzz.targets import TARGETS; print(*TARGETS, sep="\n")')
fi
mkdir -p "$findings"
failed=()
for index in "${!targets[@]}"; do
    name=${targets[index]}
    printf '[%d/%d] %-18s' $((index + 1)) ${#targets[@]} "$name"
    mkdir -p "$state/$name"
    log=$state/$name.log
    if PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH} .venv/bin/python -m fuzz "$name" -max_total_time="$seconds" -timeout=10 \
        -rss_limit_mb=4096 -artifact_prefix="$findings/$name-" "$state/$name" >"$log" 2>&1; then
        sed -n 's/^Done \([0-9]*\) runs.*/\1 inputs, nothing found/p' "$log"
    else
        failed+=("$name")
        printf 'FAILED: %s\n' "$log"
    fi
done
if ((${#failed[@]})); then
    printf '\nfailed: %s\nThe log ends with the error; what it was fed, if it came to that, is in %s\n' "${failed[*]}" "$findings"
    exit 1
fi
