#!/usr/bin/env bash
# DASR, x4, anisotropic blur and noise (DASR, Table 3). Stages: train, test (noise 0, 5 and 10).
source "$(dirname "${BASH_SOURCE[0]}")/row.sh"
TEST_NOISE="0 5 10"
contrast dasr_noise DASR 4 aniso 25 "${quick_warmup[@]}"
