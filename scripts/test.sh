#!/usr/bin/env bash
# ruff, pyright and pytest, slow tests included; arguments go to pytest (-m "not slow" leaves the slow ones out).
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" requirements-dev.txt
.venv/bin/ruff check
.venv/bin/ruff format --check
types=$(mktemp)
.venv/bin/pyright >"$types" 2>&1 & # beside the tests; it takes one core, for a minute
pyright=$!
trap 'kill "$pyright" 2>/dev/null || true; rm -f "$types"' EXIT
export OMP_NUM_THREADS=1  # many small tests: a process on each core beats several threads in one
limit=$(command -v timeout || true)  # each test has a limit of its own; this ends what hangs so that it hears no signal
# The order is that of tests/conftest.py.
failed=()
${limit:+"$limit" --foreground --kill-after=60 4200} \
    .venv/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder "$@" || failed+=("pytest ended with $?")
wait "$pyright" || failed+=("pyright ended with $?")
cat "$types"
if [ ${#failed[@]} -gt 0 ]; then
    printf 'FAILED: %s\n' "${failed[@]}"
    exit 1
fi
echo "passed: ruff, pyright and pytest"
