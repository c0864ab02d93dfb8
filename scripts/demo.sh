#!/usr/bin/env bash
# The main job in miniature: train a KDSR teacher, distil its student, test it against bicubic. See scripts/demo.py.
#   bash scripts/demo.sh [--minutes 5]
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" requirements.txt
exec .venv/bin/python scripts/demo.py "$@"
