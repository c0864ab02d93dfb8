#!/usr/bin/env bash
# IKC, x4, isotropic blur (KDSR, Table 1). Stages: sftmd, correction, test.
source "$(dirname "${BASH_SOURCE[0]}")/row.sh"
ikc 4
