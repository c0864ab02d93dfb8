#!/usr/bin/env bash
# KDSR-M, x4, isotropic blur (KDSR, Table 1). Stages: teacher, student, test.
source "$(dirname "${BASH_SOURCE[0]}")/row.sh"
kdsr kdsr_m 4 iso
