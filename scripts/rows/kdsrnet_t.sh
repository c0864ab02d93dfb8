#!/usr/bin/env bash
# KDSRNet-T: teacher of real-world KDSR, x4, second-order degradation, L1.
source "$(dirname "${BASH_SOURCE[0]}")/row.sh"
real teacher
