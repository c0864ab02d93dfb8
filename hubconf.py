"""Entry points for torch.hub: one for each network, with fresh weights or those of a file.

    net = torch.hub.load(REPO, "kdsr_s", source="local", scale=4, weights="kdsr_s_x4.safetensors")
    sr = net.upscale(image)

The folder model/ is loaded as `blindsr`, so that it does not clash with a module `model` of the calling program.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

dependencies = ["torch", "numpy", "safetensors"]


def kdsr_t(scale: int | None = None, weights: str | None = None, **sizes: int) -> Any:
    """Return KDSR's teacher, which needs the HR image too. Sizes: n_feats, n_blocks, n_resblocks.

    As for all entry points: `scale` is 2, 3 or 4, by default that of the file, or 4; `weights` is a file that
    `load_model` reads; ValueError if the file holds another network or other sizes. The network is in eval mode.
    """
    return _network("KDSR_T", scale, weights, sizes)


def kdsr_s(scale: int | None = None, weights: str | None = None, **sizes: int) -> Any:
    """Return KDSR's student. Sizes: n_feats, n_blocks, n_resblocks."""
    return _network("KDSR_S", scale, weights, sizes)


def cdsr(scale: int | None = None, weights: str | None = None, **sizes: int) -> Any:
    """Return CDSR. Sizes: n_feats, n_blocks."""
    return _network("CDSR", scale, weights, sizes)


def dasr(scale: int | None = None, weights: str | None = None, **sizes: int) -> Any:
    """Return DASR. Sizes: n_feats, n_blocks."""
    return _network("DASR", scale, weights, sizes)


def ikc(scale: int | None = None, weights: str | None = None, **sizes: int) -> Any:
    """Return IKC. Sizes: n_feats, n_blocks."""
    return _network("IKC", scale, weights, sizes)


def edsr(scale: int | None = None, weights: str | None = None, **sizes: int) -> Any:
    """Return EDSR-baseline. Sizes: n_feats, n_blocks."""
    return _network("EDSR", scale, weights, sizes)


def rrdb(scale: int | None = None, weights: str | None = None, **sizes: int) -> Any:
    """Return RRDBNet. Sizes: n_feats, n_blocks."""
    return _network("RRDB", scale, weights, sizes)


def bicubic(scale: int | None = None, weights: str | None = None, **sizes: int) -> Any:
    """Return bicubic interpolation, which has no weights and no sizes."""
    return _network("BICUBIC", scale, weights, sizes)


def _network(name: str, scale: int | None, weights: str | None, sizes: dict[str, int]) -> Any:
    package = _package()
    if weights is None:
        return package.build(name, scale=4 if scale is None else scale, **sizes).eval()
    net = package.load_model(weights)
    wanted = sizes if scale is None else {"scale": scale, **sizes}
    if package.name_of(net) != name or any(net.config.get(key) != value for key, value in wanted.items()):
        raise ValueError(f"`weights`: {weights} holds {package.name_of(net)} {net.config}, not {name} {wanted}")
    return net


def _package() -> ModuleType:
    """Return the folder model/ as the package `blindsr`, which may be installed and loaded already."""
    if "blindsr" in sys.modules:
        return sys.modules["blindsr"]
    folder = Path(__file__).resolve().parent / "model"
    spec = importlib.util.spec_from_file_location(
        "blindsr", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    package = sys.modules["blindsr"] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(package)
    except BaseException:
        del sys.modules["blindsr"]
        raise
    return package
