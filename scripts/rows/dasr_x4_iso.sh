#!/usr/bin/env bash
# DASR, x4, isotropic blur (KDSR, Table 1). Stages: train, test.
source "$(dirname "${BASH_SOURCE[0]}")/row.sh"
contrast dasr DASR 4 iso 0 "${quick_warmup[@]}"
