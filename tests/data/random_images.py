"""Images of random pixels, for tests of files and folders."""

import numpy as np

from data.images import write_image


def noise_image(seed, height, width):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_all(folder, names, side):
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        write_image(folder / f"{name}.png", noise_image(i, side, side))
    return folder
