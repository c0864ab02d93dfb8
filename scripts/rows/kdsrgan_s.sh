#!/usr/bin/env bash
# KDSRGAN-S: the student of real-world KDSR as a GAN; after kdsrnet_s.sh. Stages: gan, test.
source "$(dirname "${BASH_SOURCE[0]}")/row.sh"
real gan test
