#!/usr/bin/env bash
# KDSRGAN-S: the student of real-world KDSR as a GAN; after kdsrnet_s.sh. FLAGS="--sharpen" is V2.
source "$(dirname "${BASH_SOURCE[0]}")/row.sh"
real gan
