#!/usr/bin/env bash
# KDSR-L, x2, isotropic blur (KDSR, Table 1). Stages: teacher, student, test.
source "$(dirname "${BASH_SOURCE[0]}")/row.sh"
kdsr kdsr_l 2 iso --n_feats 128 --n_blocks 28 --n_resblocks 5
