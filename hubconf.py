"""Entry points for torch.hub: one for each network of `NETWORKS`, with fresh weights or those of a file.

    net = torch.hub.load(REPO, "kdsr_s", source="local", scale=4, weights="kdsr_s_x4.safetensors")
    sr = net.upscale(image)

The folder model/ is loaded as `blindsr`, so that it does not clash with a module `model` of the calling program.
"""

import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any


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


def _entry(name: str) -> Callable[..., Any]:
    """Return the entry point of a network."""
    package = _package()
    known = [size for size in inspect.signature(package.NETWORKS[name]).parameters if size != "scale"]

    def entry(scale: int | None = None, weights: str | None = None, **sizes: int) -> Any:
        if unknown := sizes.keys() - known:
            raise ValueError(
                f"{name} takes no {', '.join(sorted(unknown))}; its sizes are {', '.join(known) or 'none'}"
            )
        if weights is None:
            return package.build(name, scale=4 if scale is None else scale, **sizes).eval()
        net = package.load_model(weights)
        wanted = sizes if scale is None else {"scale": scale, **sizes}
        if package.name_of(net) != name or any(net.config.get(key) != value for key, value in wanted.items()):
            raise ValueError(f"`weights`: {weights} holds {package.name_of(net)} {net.config}, not {name} {wanted}")
        return net

    entry.__doc__ = f"""Return {name} in eval mode. Sizes: {", ".join(known) or "none"}.

    `scale` is 2, 3 or 4, by default that of the file, or 4; `weights` is a file or a bundled name that `load_model`
    reads. Raises ValueError if the file holds another network or other sizes.
    """
    return entry


globals().update({name.lower(): _entry(name) for name in _package().NETWORKS})
