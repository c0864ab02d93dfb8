#!/usr/bin/env bash
# CDSR, x3 (CDSR, Table 2). Stages: train, test.
source "$(dirname "${BASH_SOURCE[0]}")/row.sh"
contrast cdsr CDSR 3 aniso 0
