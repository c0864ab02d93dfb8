#!/usr/bin/env bash
# CDSR, x2 (CDSR, Table 2). Stages: train, test.
source "$(dirname "${BASH_SOURCE[0]}")/row.sh"
contrast cdsr CDSR 2 aniso 0
