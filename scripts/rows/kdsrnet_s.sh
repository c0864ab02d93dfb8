#!/usr/bin/env bash
# KDSRNet-S: student of real-world KDSR, L1 and distillation; after kdsrnet_t.sh.
source "$(dirname "${BASH_SOURCE[0]}")/row.sh"
real student
