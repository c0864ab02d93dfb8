#!/usr/bin/env bash
# Real-world KDSR, x4 (KDSR, Table 3): KDSRNet-T, KDSRNet-S, KDSRGAN-S, test.
source "$(dirname "${BASH_SOURCE[0]}")/row.sh"
real teacher student gan test
