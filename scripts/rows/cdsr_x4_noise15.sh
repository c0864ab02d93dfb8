#!/usr/bin/env bash
# CDSR, x4, noise 15 (CDSR, Table 2). Stages: train, test.
source "$(dirname "${BASH_SOURCE[0]}")/row.sh"
contrast cdsr_noise15 CDSR 4 aniso 15
