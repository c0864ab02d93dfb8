#!/usr/bin/env bash
# Build the site of docs/ into build/site, strictly: a dead link or a page that is not in the menu ends it with an error.
#   bash scripts/docs.sh [serve]     with `serve`, show it at http://127.0.0.1:8000 and follow changes
# Its packages go into an environment of their own, build/docs-venv; PyTorch is not needed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=build/docs-venv
if ! cmp -s requirements-docs.txt "$venv/installed"; then
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --requirement requirements-docs.txt
    cp requirements-docs.txt "$venv/installed"
fi
if [ "${1:-}" = serve ]; then
    exec "$venv/bin/mkdocs" serve --strict
fi
exec "$venv/bin/mkdocs" build --strict
