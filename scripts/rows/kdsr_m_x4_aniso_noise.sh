#!/usr/bin/env bash
# KDSR-M, x4, anisotropic blur and noise (KDSR, Table 2). Stages: teacher, student, test (noise 0, 10 and 20).
source "$(dirname "${BASH_SOURCE[0]}")/row.sh"
TEST_NOISE="0 10 20"
kdsr kdsr_m_noise 4 aniso --noise 25 -- "${quick_warmup[@]}"
