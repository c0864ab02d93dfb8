"""All networks by name. To add one, write its file and add a line to `NETWORKS`."""

from __future__ import annotations

import inspect
from typing import Any

from .bicubic import Bicubic
from .cdsr import CDSR
from .dasr import DASR
from .edsr import EDSR
from .ikc import IKC
from .kdsr import KDSRStudent, KDSRTeacher
from .layer import BlindSR
from .rrdb import RRDBNet

NETWORKS: dict[str, type[BlindSR]] = {
    "KDSR_T": KDSRTeacher,
    "KDSR_S": KDSRStudent,
    "CDSR": CDSR,
    "DASR": DASR,
    "IKC": IKC,
    "EDSR": EDSR,
    "RRDB": RRDBNet,
    "BICUBIC": Bicubic,
}


def build(name: str, **config: Any) -> BlindSR:
    """Build a network with fresh weights.

    Args:
        name: a key of `NETWORKS`.
        config: arguments of the network's constructor; all of them take `scale` (2, 3 or 4).

    Raises:
        ValueError: there is no such network, or it does not take one of the arguments.

    Examples:
        >>> net = build("KDSR_S", scale=4, n_feats=8, n_blocks=2, n_resblocks=1)
        >>> net.config
        {'scale': 4, 'n_feats': 8, 'n_blocks': 2, 'n_resblocks': 1}
    """
    if name not in NETWORKS:
        raise ValueError(f"`name`: there is no network {name}, only {', '.join(NETWORKS)}")
    accepted = inspect.signature(NETWORKS[name]).parameters
    if unknown := [key for key in config if key not in accepted]:
        raise ValueError(f"`{unknown[0]}` means nothing to {name}, which takes {', '.join(accepted)}")
    return NETWORKS[name](**config)


def name_of(net: BlindSR) -> str:
    """Return the name of a network in `NETWORKS`. Raises ValueError for any other module.

    Examples:
        >>> name_of(build("BICUBIC", scale=2))
        'BICUBIC'
    """
    for name, network in NETWORKS.items():
        if network is type(net):
            return name
    inner = next((part for part in ("_orig_mod", "module") if hasattr(net, part)), "")  # of torch.compile, DataParallel
    remedy = f"; give its `.{inner}`" if inner else ""
    raise ValueError(f"`net`: {type(net).__name__} is none of the networks {', '.join(NETWORKS)}{remedy}")
