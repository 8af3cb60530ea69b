"""A LoRA trainer as the public examples are written: what the trainer of this project is measured against.

In the manner of diffusers' example for FLUX, in our own words: cached latents and prompt embeddings behind
a standard DataLoader, peft's LoRA layers in the model's number format cast to float32, torch's AdamW,
noise levels looked up in the scheduler's table one by one, clipping, and the loss read back after every
step. No compiled graphs, no fused layers.

    python -m benchmarks.plain_loop OPTIONS_AS_JSON
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from peft import LoraConfig
from torch.utils.data import DataLoader, Dataset

from backend.trainer.bench.__main__ import config_of, say
from backend.trainer.bench.measure import measure
from backend.trainer.bench.shapes import random_transformer

PICTURES = 20


class CachedPictures(Dataset[dict[str, torch.Tensor]]):
    """Cached latents and embeddings of pictures of one size, on the CPU as caches are."""

    def __init__(
        self, config: dict[str, Any], width: int, height: int, text: int, dtype: torch.dtype
    ) -> None:
        generator = torch.Generator().manual_seed(1)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator).to(dtype)

        channels = int(config["in_channels"]) // 4
        deep, pooled = int(config["joint_attention_dim"]), int(config["pooled_projection_dim"])
        self.latents = [normal(channels, height // 8, width // 8) for _ in range(PICTURES)]
        self.prompt = [normal(text, deep) for _ in range(PICTURES)]
        self.pooled = [normal(pooled) for _ in range(PICTURES)]

    def __len__(self) -> int:
        return PICTURES

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"latents": self.latents[index], "prompt": self.prompt[index], "pooled": self.pooled[index]}


class PlainLoop:
    """The loop; ``train`` performs one of its steps."""

    def __init__(self, options: dict[str, Any], config: dict[str, Any], device: torch.device) -> None:
        self.facts: dict[str, Any] = {"attention": "native", "compute": "bf16", "compiled": False}
        self._config, self._device = config, device
        self._count, self._text = int(options["batch"]), int(options["text_tokens"])
        self._dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self._model = random_transformer(config, device, self._dtype)
        blocks = "transformer_blocks"  # all linear layers of both kinds of blocks, as the trainer's default
        names = [n for n, m in self._model.named_modules() if isinstance(m, torch.nn.Linear) and blocks in n]
        rank = int(options["rank"])
        self._model.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=names))
        if options["checkpointing"] == "on":
            self._model.enable_gradient_checkpointing()
        self._model.train()
        self._parameters = [p for p in self._model.parameters() if p.requires_grad]
        for parameter in self._parameters:
            parameter.data = parameter.data.float()
        self._optimizer = torch.optim.AdamW(self._parameters, lr=1e-4)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, lambda step: 1.0)
        self._scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3.0)
        self._batches: dict[tuple[int, int], Iterator[dict[str, torch.Tensor]]] = {}

    def train(self, done: int, width: int, height: int) -> None:
        """One step."""
        stream = self._batches.setdefault((width, height), self._stream(width, height))
        self.step(next(stream))

    def _stream(self, width: int, height: int) -> Iterator[dict[str, torch.Tensor]]:
        data = CachedPictures(self._config, width, height, self._text, self._dtype)
        loader = DataLoader(data, batch_size=self._count, shuffle=True, drop_last=True)
        while True:
            yield from loader

    def step(self, batch: dict[str, torch.Tensor]) -> float:
        """Forward, backward, update on one batch; returns the loss."""
        latents = batch["latents"].to(self._device, self._dtype)
        prompt = batch["prompt"].to(self._device, self._dtype)
        pooled = batch["pooled"].to(self._device, self._dtype)
        count, channels, height, width = latents.shape
        ids = torch.zeros(height // 2, width // 2, 3)
        ids[..., 1] = ids[..., 1] + torch.arange(height // 2)[:, None]
        ids[..., 2] = ids[..., 2] + torch.arange(width // 2)[None, :]
        ids = ids.reshape(-1, 3).to(self._device, self._dtype)
        text_ids = torch.zeros(prompt.shape[1], 3, device=self._device, dtype=self._dtype)

        noise = torch.randn_like(latents)
        u = torch.sigmoid(torch.randn(count))
        indices = (u * self._scheduler.config.num_train_timesteps).long()
        timesteps = self._scheduler.timesteps[indices].to(self._device)
        sigmas = self._sigmas(timesteps, latents.ndim)
        noisy = (1.0 - sigmas) * latents + sigmas * noise

        tokens = noisy.view(count, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
        guidance = torch.tensor([1.0], device=self._device).expand(count)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda"):
            predicted = self._model(
                hidden_states=tokens.reshape(count, -1, channels * 4),
                timestep=timesteps / 1000,
                guidance=guidance,
                pooled_projections=pooled,
                encoder_hidden_states=prompt,
                txt_ids=text_ids,
                img_ids=ids,
                return_dict=False,
            )[0]
        predicted = predicted.view(count, height // 2, width // 2, channels, 2, 2)
        predicted = predicted.permute(0, 3, 1, 4, 2, 5).reshape(count, channels, height, width)
        target = noise - latents
        error = (predicted.float() - target.float()) ** 2
        loss = error.reshape(count, -1).mean(1).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad()
        return loss.detach().item()

    def _sigmas(self, timesteps: torch.Tensor, dimensions: int) -> torch.Tensor:
        sigmas = self._scheduler.sigmas.to(self._device, self._dtype)
        table = self._scheduler.timesteps.to(self._device)
        indices = [(table == t).nonzero().item() for t in timesteps]
        sigma = sigmas[indices].flatten()
        while sigma.ndim < dimensions:
            sigma = sigma.unsqueeze(-1)
        return sigma


def main() -> int:
    """Measure the variant that the first argument describes."""
    options = json.loads(sys.argv[1])
    if options.get("threads"):
        torch.set_num_threads(int(options["threads"]))
    measure(options, config_of(options), torch.device(options["device"]), PlainLoop, say)
    return 0


if __name__ == "__main__":
    sys.exit(main())
