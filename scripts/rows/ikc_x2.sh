#!/usr/bin/env bash
# IKC, x2, isotropic blur (as the authors of DAN measured it). Stages: sftmd, correction, test.
source "$(dirname "${BASH_SOURCE[0]}")/row.sh"
ikc 2
