#!/usr/bin/env bash
# ruff, pyright and pytest; arguments go to pytest.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" requirements-dev.txt
.venv/bin/ruff check
.venv/bin/ruff format --check
.venv/bin/pyright
.venv/bin/python -m pytest "$@"
