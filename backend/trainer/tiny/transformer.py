"""The tiny FLUX's transformer: FLUX.1's architecture at a ten-thousandth of its size.

Its blocks are random. Around them the weights are chosen so that an adapter in the blocks, the only
place where LoRAs of FLUX are trained, can learn from a few hundred steps: what comes in reaches the
output, and the blocks disturb it little until they are taught.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from backend.trainer.tiny.text import CLIP_WIDTH, T5_WIDTH

if TYPE_CHECKING:
    from diffusers import FluxTransformer2DModel

_IN_CHANNELS = 64  # 16 latent channels in patches of 2 x 2
_DOUBLE_BLOCKS, _SINGLE_BLOCKS = 1, 2
_HEADS, _HEAD_WIDTH = 4, 32
_ROPE_AXES = (8, 12, 12)  # sums to the head's width
_WIDTH = _HEADS * _HEAD_WIDTH

# Length of a constant vector in the residual stream, beside tokens of length 8. Layer normalisation
# then keeps most of what sets a loud token apart from a quiet one.
_ANCHOR = 8.0
_GATE = 0.5  # share of a block's output that joins the stream, as long as nothing was learned
_MODULATION = 0.1  # how much the gates, shifts and scales depend on time and text
# The order in which diffusers' AdaLayerNormZero and AdaLayerNormZeroSingle cut their output.
_DOUBLE_GATES, _SINGLE_GATES = (2, 5), (2,)


def build_transformer(*, guidance_embeds: bool) -> FluxTransformer2DModel:
    """A ``FluxTransformer2DModel`` on tokens [batch, tokens, 64], drawn from torch's global RNG."""
    from diffusers import FluxTransformer2DModel

    model = FluxTransformer2DModel(
        patch_size=1,
        in_channels=_IN_CHANNELS,
        num_layers=_DOUBLE_BLOCKS,
        num_single_layers=_SINGLE_BLOCKS,
        attention_head_dim=_HEAD_WIDTH,
        num_attention_heads=_HEADS,
        joint_attention_dim=T5_WIDTH,
        pooled_projection_dim=CLIP_WIDTH,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=_ROPE_AXES,
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                torch.nn.init.xavier_normal_(parameter)
                if ".norm" in name:
                    parameter.mul_(_MODULATION)
            elif name.endswith("bias"):
                parameter.zero_()
        for double in model.transformer_blocks:
            _open(double.norm1.linear.bias, _DOUBLE_GATES)
            _open(double.norm1_context.linear.bias, _DOUBLE_GATES)
        for single in model.single_transformer_blocks:
            _open(single.norm.linear.bias, _SINGLE_GATES)
        model.norm_out.linear.weight.mul_(_MODULATION)
        _carry_through(model)
    return model.eval()


def _open(bias: Tensor, gates: tuple[int, ...]) -> None:
    """Set the constant part of a modulation's gates."""
    for gate in gates:
        bias[gate * _WIDTH : (gate + 1) * _WIDTH] = _GATE


def _carry_through(model: FluxTransformer2DModel) -> None:
    """Let the output layer read what the input layer wrote, in a random orthonormal basis of the stream."""
    basis = torch.linalg.qr(torch.randn(_WIDTH, _WIDTH)).Q
    written, anchor = basis[:, :_IN_CHANNELS], basis[:, _IN_CHANNELS]
    anchor = anchor - anchor.mean()  # layer normalisation would take the mean away
    model.x_embedder.weight.copy_(written)
    model.x_embedder.bias.copy_(_ANCHOR * anchor / anchor.norm())
    deviation = ((_ANCHOR**2 + _IN_CHANNELS) / _WIDTH) ** 0.5  # of a token's features
    model.proj_out.weight.copy_(deviation * written.T)
