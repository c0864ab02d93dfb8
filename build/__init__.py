"""From options to the parts that `main.py` and `test.py` put together."""

from build.degradation import protocol, recipe
from build.images import batches, benchmarks, check_benchmarks, hold_out, pairs, training_folder, training_images
from build.learning import check_patch, check_teacher, device, network, numerics, objective, plan, require

__all__ = [
    "batches",
    "benchmarks",
    "check_benchmarks",
    "check_patch",
    "check_teacher",
    "device",
    "hold_out",
    "network",
    "numerics",
    "objective",
    "pairs",
    "plan",
    "protocol",
    "recipe",
    "require",
    "training_folder",
    "training_images",
]
