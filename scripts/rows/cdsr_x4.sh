#!/usr/bin/env bash
# CDSR, x4 (CDSR, Table 2). Stages: train, test.
source "$(dirname "${BASH_SOURCE[0]}")/row.sh"
contrast cdsr CDSR 4 aniso 0
