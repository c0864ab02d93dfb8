#!/usr/bin/env bash
# KDSR-M, x4, anisotropic blur and noise (KDSR, Table 2). Stages: teacher, student, test (noise 0, 10 and 20).
source "$(dirname "${BASH_SOURCE[0]}")/row.sh"
kdsr kdsr_m_noise 4 aniso --noise 25 -- "${quick_warmup[@]}"
if wanted test; then
    for noise in 10 20; do
        run_test kdsr_m_noise_x4_bicubic_aniso --blur_type aniso_gaussian --noise "$noise"
    done
fi
