#!/usr/bin/env bash
# DASR, x4, anisotropic blur and noise (DASR, Table 3). Stages: train, test.
source "$(dirname "${BASH_SOURCE[0]}")/row.sh"
contrast dasr_noise DASR 4 aniso 25 "${quick_warmup[@]}"
