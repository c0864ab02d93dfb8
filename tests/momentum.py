"""The momentum encoder and queue that published training files of CDSR and DASR hold beside the network."""

from __future__ import annotations

from torch import Tensor

from model import foreign


def state_of_moco(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what `MoCo` loads. The momentum encoder has the keys of the encoder, below another name."""
    swapped = {
        key.replace("E.encoder_k.", "E.encoder_q."): value
        for key, value in state.items()
        if not key.startswith("E.encoder_q.")
    }
    encoder = foreign.read(swapped)[0].get_submodule("encoder")
    return {
        **{f"encoder.{key}": value for key, value in encoder.state_dict().items()},
        "queue": state["E.queue"],
        "pointer": state["E.queue_ptr"],
    }
