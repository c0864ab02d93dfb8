#!/usr/bin/env bash
# ruff, pyright and pytest, slow tests included; arguments go to pytest (-m "not slow" leaves the slow ones out).
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" requirements-dev.txt
.venv/bin/ruff check
.venv/bin/ruff format --check
.venv/bin/pyright
export OMP_NUM_THREADS=1  # many small tests: a process on each core beats several threads in one
exec .venv/bin/python -m pytest -n auto --dist loadfile "$@"
