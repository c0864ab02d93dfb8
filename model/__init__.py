"""Networks for blind super-resolution, their weight files, and super-resolution of images of any size.

Needs torch, numpy and safetensors only. `pip install .` installs this folder as the package `blindsr`:

    from blindsr import load_model
    sr = load_model("kdsr_s_x4.safetensors").upscale(image)  # (H, W, 3) uint8 or uint16, or a float tensor
"""

from .cdsr import CDSR
from .checkpoint import (
    WEIGHTS,
    checkpoint,
    load_model,
    read_file,
    read_tensors,
    save_folder,
    save_model,
    warm_start,
    write_file,
)
from .dasr import DASR
from .ema import EMA
from .ikc import IKC
from .kdsr import KDSRStudent, KDSRTeacher
from .layer import BlindSR, Embedding, Restored
from .moco import ContrastiveSR
from .networks import NETWORKS, build, name_of
from .tiling import upscale, upscale_rows

__all__ = [
    "CDSR",
    "DASR",
    "EMA",
    "IKC",
    "NETWORKS",
    "WEIGHTS",
    "BlindSR",
    "ContrastiveSR",
    "Embedding",
    "KDSRStudent",
    "KDSRTeacher",
    "Restored",
    "build",
    "checkpoint",
    "load_model",
    "name_of",
    "read_file",
    "read_tensors",
    "save_folder",
    "save_model",
    "upscale",
    "upscale_rows",
    "warm_start",
    "write_file",
]
