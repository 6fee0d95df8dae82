"""EoMT trains with masked attention and keeps a buffer of how often; in use it is 0, and steers Python."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

MASKED = "attn_mask_probs"


def unmask(host: Any) -> None:
    """EoMT's buffer of probabilities becomes plain numbers: comparing a buffer waits for the device in every block.

    ValueError where one is above 0, as before training has ended: attention is then masked by what queries find.
    """
    probabilities: Tensor | None = host._buffers.get(MASKED)
    if probabilities is None:
        return
    if probabilities.device.type != "meta" and float(probabilities.max()) > 0:
        raise ValueError(
            f"this {type(host).__name__} masks attention, which reduced tokens do not follow; expected a network whose "
            "training has ended, with attn_mask_probs of 0"
        )
    del host._buffers[MASKED]
    setattr(host, MASKED, (0.0,) * probabilities.shape[0])
    host.register_state_dict_post_hook(_keep_probabilities)
    host.register_load_state_dict_pre_hook(_drop_probabilities)


def _keep_probabilities(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    first = next(module.parameters())
    state[prefix + MASKED] = first.new_zeros(len(getattr(module, MASKED)))


def _drop_probabilities(module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    state.pop(prefix + MASKED, None)
