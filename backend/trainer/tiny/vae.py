"""The tiny FLUX's autoencoder: linear, in closed form, yet a real ``AutoencoderKL``.

A latent pixel holds the 16 coefficients of its 8 x 8 block in a basis of polynomials: ten of degree
up to 3 for brightness, three of degree up to 1 for each of the two colour differences. Polynomials
on a block are polynomials on its quarters, so three strided convolutions compute them exactly. The
decoder's three convolutions are fitted by least squares to some pictures.

The network around them is made linear: residual branches end in zeros, ``silu(x) - silu(-x) = x``
takes pairs of opposite channels through the non-linearity, and a pair of large constants drowns what
group normalisation would do to the scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

LATENT_CHANNELS = 16
DOWNSAMPLING = 8
# FLUX.1's own constants: the latents are scaled so that they hold here, too.
SCALING_FACTOR, SHIFT_FACTOR = 0.3611, 0.1159

_WIDTH = 2 * LATENT_CHANNELS + 2  # pairs of opposite channels, and the pair of constants
_CONSTANT = 1000.0
_LOG_VARIANCE = -12.0  # the posterior is nearly a point, as that of the real one
_RIDGE = 1e-3
# Between 0 (orthonormal coefficients) and 1 (all channels of equal variance).
_WHITENING = 0.5


def build_vae(pictures: Sequence[Tensor]) -> AutoencoderKL:
    """An autoencoder fitted to ``pictures``.

    Args:
        pictures: Tensors [3, H, W] in -1..1 with sides divisible by 8; their scaled latents have zero
            mean and, over all channels, unit variance.
    """
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(_WIDTH,) * 4,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=1,
        sample_size=256,
        scaling_factor=SCALING_FACTOR,
        shift_factor=SHIFT_FACTOR,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    with torch.no_grad():
        for name, parameter in vae.named_parameters():
            branch_end = name.endswith(("conv2.weight", "conv2.bias", "to_out.0.weight", "to_out.0.bias"))
            if branch_end or (name.endswith(("conv.weight", "conv.bias"))):
                parameter.zero_()
        _wire_encoder(vae, pictures)
        _wire_decoder(vae, pictures)
    return vae.eval()


def _monomials(size: int) -> Tensor:
    """The basis on a block of ``size`` x ``size`` pixels, [16, 3, size, size]; the middle is 0."""
    axis = (torch.arange(size, dtype=torch.float64) - (size - 1) / 2) / (DOWNSAMPLING / 2)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    # BT.601 brightness and colour differences.
    luma = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    blue = torch.tensor([-0.169, -0.331, 0.5], dtype=torch.float64)
    red = torch.tensor([0.5, -0.419, -0.081], dtype=torch.float64)
    rows = []
    for color, top in ((luma, 3), (blue, 1), (red, 1)):
        for degree in range(top + 1):
            for power in range(degree + 1):
                rows.append(color[:, None, None] * (x ** (degree - power) * y**power))
    return torch.stack(rows)


def _pair(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """A convolution whose channels come as x, -x and +-the constant."""
    weight = torch.cat([weight, -weight, torch.zeros_like(weight[:2])])
    constants = torch.tensor([_CONSTANT, -_CONSTANT], dtype=bias.dtype)
    return weight, torch.cat([bias, -bias, constants])


def _set(module: torch.nn.Module, weight: Tensor, bias: Tensor | None = None) -> None:
    """Fill the first channels of a convolution, the rest with zeros."""
    parameters = dict(module.named_parameters())
    parameters["weight"].zero_()
    parameters["bias"].zero_()
    out, into, high, wide = weight.shape
    parameters["weight"][:out, :into, :high, :wide] = weight
    if bias is not None:
        parameters["bias"][: len(bias)] = bias


def _set_norm(norm: torch.nn.Module) -> None:
    # The standard deviation that the constants impose, and its inverse here, cancel.
    parameters = dict(norm.named_parameters())
    parameters["weight"].fill_(_CONSTANT * (2 / _WIDTH) ** 0.5)
    parameters["bias"].zero_()


def _wire_encoder(vae: AutoencoderKL, pictures: Sequence[Tensor]) -> None:
    encoder = vae.encoder
    identity = torch.zeros(3, 3, 3, 3)
    identity[range(3), range(3), 1, 1] = 1.0
    _set(encoder.conv_in, identity)
    for level, size in enumerate((2, 4, 8)):
        half = size // 2
        # Level 1 reads plain colours, the others the coefficients of the level below.
        below = torch.eye(3, dtype=torch.float64) if half == 1 else _monomials(half).flatten(1)
        whole = _monomials(size)
        weight = torch.zeros(LATENT_CHANNELS, len(below), 2, 2, dtype=torch.float64)
        for row in range(2):
            for column in range(2):
                part = whole[:, :, row * half : (row + 1) * half, column * half : (column + 1) * half]
                weight[:, :, row, column] = part.flatten(1) @ torch.linalg.pinv(below)
        bias = torch.zeros(LATENT_CHANNELS, dtype=torch.float64)
        if level == 2:
            weight, bias = _pair(weight, bias)
        _set(encoder.down_blocks[level].downsamplers[0].conv, weight, bias)
    _set_norm(encoder.conv_norm_out)

    # Orthonormal coefficients from moments (QR), then one gain a channel.
    basis = _monomials(DOWNSAMPLING).flatten(1)
    inverse = torch.linalg.inv(torch.linalg.qr(basis.T).R).T
    blocks = torch.cat(
        [functional.unfold(p[None].double(), DOWNSAMPLING, stride=DOWNSAMPLING)[0].T for p in pictures]
    )
    coefficients = blocks @ basis.T @ inverse.T
    deviation, mean = torch.std_mean(coefficients, dim=0)
    gain = deviation**-_WHITENING
    gain /= (gain * deviation).square().mean().sqrt()
    weight = (inverse * gain[:, None])[:, :, None, None] / SCALING_FACTOR
    bias = SHIFT_FACTOR - mean * gain / SCALING_FACTOR
    _set_out(encoder.conv_out, weight, torch.cat([bias, torch.full_like(bias, _LOG_VARIANCE)]))


def _set_out(module: torch.nn.Module, weight: Tensor, bias: Tensor) -> None:
    """Fill the centre of the convolution after the non-linearity, which sees x and -x."""
    out, into = weight.shape[:2]
    full = torch.zeros(out, 2 * LATENT_CHANNELS, 3, 3, dtype=weight.dtype)
    full[:, :into, 1:2, 1:2] = weight
    full[:, LATENT_CHANNELS : LATENT_CHANNELS + into, 1:2, 1:2] = -weight
    _set(module, full, bias)


def _wire_decoder(vae: AutoencoderKL, pictures: Sequence[Tensor]) -> None:
    decoder = vae.decoder
    identity = torch.zeros(LATENT_CHANNELS, LATENT_CHANNELS, 3, 3)
    identity[range(LATENT_CHANNELS), range(LATENT_CHANNELS), 1, 1] = 1.0
    _set(decoder.conv_in, identity, torch.full((LATENT_CHANNELS,), -SHIFT_FACTOR))
    hidden = [vae.encode(p[None]).latent_dist.mode() - SHIFT_FACTOR for p in pictures]
    for level, size in enumerate((4, 2, 1)):
        # Each level is fitted to the finer coefficients, given what the levels before it make.
        basis = _monomials(size).float()
        targets = [functional.conv2d(p[None], basis, stride=size) for p in pictures]
        hidden = [functional.interpolate(h, scale_factor=2.0, mode="nearest") for h in hidden]
        weight, bias = _least_squares(hidden, targets)
        hidden = [functional.conv2d(h, weight, bias, padding=1) for h in hidden]
        if level == 2:
            weight, bias = _pair(weight, bias)
        _set(decoder.up_blocks[level].upsamplers[0].conv, weight, bias)
    _set_norm(decoder.conv_norm_out)
    colors = torch.linalg.pinv(_monomials(1).flatten(1))
    _set_out(decoder.conv_out, colors[:, :, None, None], torch.zeros(3))


def _least_squares(inputs: Sequence[Tensor], targets: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The 3 x 3 convolution that best maps ``inputs`` [1, C, H, W] to ``targets`` (ridge regression)."""
    channels, count = inputs[0].shape[1], 9 * inputs[0].shape[1] + 1
    left = torch.eye(count, dtype=torch.float64)
    left *= _RIDGE * sum(i.shape[2] * i.shape[3] for i in inputs)
    right = torch.zeros(count, targets[0].shape[1], dtype=torch.float64)
    for source, target in zip(inputs, targets, strict=True):
        x = functional.unfold(source, 3, padding=1)[0].double()
        x = torch.cat([x, torch.ones_like(x[:1])])
        left += x @ x.T
        right += x @ target[0].flatten(1).T.double()
    solution = torch.linalg.solve(left, right).float()
    return solution[:-1].T.reshape(-1, channels, 3, 3), solution[-1]
