# Sourced by the other scripts: makes .venv, or reuses a good one, and installs the requirements file given as $1.
# PYTHON names the interpreter to make it with (3.10 or newer).

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
requirements=$1

find_python() {
    for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python3.10; do
        if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: no Python of version 3.10 or newer was found; name one: PYTHON=/path/to/python3 bash $0" >&2
    return 1
}

if ! .venv/bin/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    base=$(find_python)
    echo "making .venv with $("$base" --version)"
    rm -rf .venv
    "$base" -m venv .venv || {
        rm -rf .venv
        echo "error: $base cannot make virtual environments (on Debian and Ubuntu: apt install python3-venv)" >&2
        exit 1
    }
fi

# Installing again is skipped while the requirements are those that .venv was last filled with.
stamp=.venv/$requirements.installed
if ! cat requirements.txt "$requirements" | cmp -s - "$stamp"; then
    echo "installing $requirements (PyTorch with CUDA is about 6 GB, a few minutes)"
    .venv/bin/python -m pip install --quiet --upgrade pip
    .venv/bin/python -m pip install --quiet --requirement "$requirements"
    cat requirements.txt "$requirements" >"$stamp"
fi
