#!/usr/bin/env bash
# KDSRGAN-S V2: L1 and perceptual loss against sharpened HR images; after kdsrnet_s.sh. Stages: gan_v2, test_v2.
source "$(dirname "${BASH_SOURCE[0]}")/row.sh"
real gan_v2 test_v2
