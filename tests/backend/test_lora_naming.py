from __future__ import annotations

import pytest

from backend.lora.naming import (
    FLUX,
    Architecture,
    Dialect,
    Role,
    guess_architecture,
    module_table,
    parse_key,
)
from tests.backend.lora_files import SMALL, block_layers, diffusers_tensors, kohya_tensors

# Name in BFL's model, output width, input width, names and output widths in diffusers. Written down from
# kohya's conversion table by hand, as the other side of the generated one.
TABLE = [
    ("double_blocks.18.img_attn.qkv", 9216, 3072, {"attn.to_q": 3072, "attn.to_k": 3072, "attn.to_v": 3072}),
    ("double_blocks.18.img_attn.proj", 3072, 3072, {"attn.to_out.0": 3072}),
    ("double_blocks.18.img_mlp.0", 12288, 3072, {"ff.net.0.proj": 12288}),
    ("double_blocks.18.img_mlp.2", 3072, 12288, {"ff.net.2": 3072}),
    ("double_blocks.18.img_mod.lin", 18432, 3072, {"norm1.linear": 18432}),
    (
        "double_blocks.18.txt_attn.qkv",
        9216,
        3072,
        {"attn.add_q_proj": 3072, "attn.add_k_proj": 3072, "attn.add_v_proj": 3072},
    ),
    ("double_blocks.18.txt_attn.proj", 3072, 3072, {"attn.to_add_out": 3072}),
    ("double_blocks.18.txt_mlp.0", 12288, 3072, {"ff_context.net.0.proj": 12288}),
    ("double_blocks.18.txt_mlp.2", 3072, 12288, {"ff_context.net.2": 3072}),
    ("double_blocks.18.txt_mod.lin", 18432, 3072, {"norm1_context.linear": 18432}),
    (
        "single_blocks.37.linear1",
        21504,
        3072,
        {"attn.to_q": 3072, "attn.to_k": 3072, "attn.to_v": 3072, "proj_mlp": 12288},
    ),
    ("single_blocks.37.linear2", 3072, 15360, {"proj_out": 3072}),
    ("single_blocks.37.modulation.lin", 9216, 3072, {"norm.linear": 9216}),
]


@pytest.mark.parametrize(("name", "rows", "columns", "parts"), TABLE, ids=[row[0] for row in TABLE])
def test_correspondence(name: str, rows: int, columns: int, parts: dict[str, int]) -> None:
    (layer,) = [layer for layer in FLUX.layers() if layer.name == name]
    block = "single_transformer_blocks.37" if name.startswith("single") else "transformer_blocks.18"
    assert (layer.rows, layer.columns) == (rows, columns)
    assert {part.name: part.rows for part in layer.parts} == {f"{block}.{n}": r for n, r in parts.items()}
    table = module_table()
    assert table[f"lora_unet_{name.replace('.', '_')}"].layer == layer
    assert table[f"diffusion_model.{name}"].part is None
    for index, part in enumerate(layer.parts):
        for text in (
            f"transformer.{part.name}",
            f"lora_transformer_{part.name.replace('.', '_')}",
            f"lycoris_{part.name.replace('.', '_')}",
            part.name,
        ):
            assert (table[text].layer, table[text].part) == (layer, index)


def test_it_names_every_linear_layer_of_the_real_transformer() -> None:
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    with torch.device("meta"):
        model = diffusers.FluxTransformer2DModel(guidance_embeds=True)
    real = {
        name: (module.out_features, module.in_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    ours = {
        part.name: (part.rows, layer.columns)
        for layer in FLUX.layers()
        for part in layer.parts
        if not layer.text
    }
    assert ours == real
    assert sum("transformer_blocks" in name for name in ours) == 494
    assert Architecture.from_modules(real) == FLUX


def test_architecture_of_a_small_model() -> None:
    modules = {
        part.name: (part.rows, layer.columns)
        for layer in SMALL.layers()
        for part in layer.parts
        if not layer.text
    }
    assert Architecture.from_modules(modules) == SMALL
    with pytest.raises(ValueError, match="no layer of a FLUX block"):
        Architecture.from_modules({"lm_head": (4, 4)})


@pytest.mark.parametrize("tensors", [diffusers_tensors(), kohya_tensors()], ids=["diffusers", "kohya"])
def test_a_file_tells_its_architecture(tensors: dict[str, object]) -> None:
    found = guess_architecture({key: value.shape for key, value in tensors.items()})  # type: ignore[attr-defined]
    assert (found.width, found.double_blocks, found.single_blocks) == (8, 1, 2)
    one = "transformer.single_transformer_blocks.3.proj_out.lora_B.weight"
    assert guess_architecture({one: (3072, 4)}) == FLUX
    assert guess_architecture({}) == FLUX
    assert guess_architecture({one: (0, 4), "x": (3,)}) == FLUX


@pytest.mark.parametrize(
    ("text", "dialect", "role"),
    [
        ("transformer.transformer_blocks.0.attn.to_q.lora_A.weight", Dialect.DIFFUSERS, Role.DOWN),
        ("transformer.transformer_blocks.0.attn.to_q.lora.up.weight", Dialect.DIFFUSERS, Role.UP),
        ("lora_unet_single_blocks_37_linear1.alpha", Dialect.KOHYA, Role.ALPHA),
        ("diffusion_model.single_blocks.0.linear2.lora_B.weight", Dialect.COMFY, Role.UP),
        ("lora_transformer_transformer_blocks_0_ff_net_2.lora_up.weight", Dialect.FLATTENED, Role.UP),
        ("lycoris_transformer_blocks_0_attn_to_q.lokr_w1", Dialect.LYCORIS, Role.LOKR),
        ("double_blocks.0.processor.qkv_lora2.down.weight", Dialect.XLABS, Role.DOWN),
        ("single_transformer_blocks.0.norm.linear.lora_B.weight", Dialect.BARE, Role.UP),
        ("lora_te1_text_model_encoder_layers_11_mlp_fc2.lora_down.weight", None, Role.DOWN),
        ("text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight", None, Role.DOWN),
    ],
)
def test_keys_of_all_dialects(text: str, dialect: Dialect | None, role: Role) -> None:
    key = parse_key(text)
    assert key.module is not None
    assert (key.module.dialect, key.role, key.known) == (dialect, role, True)


@pytest.mark.parametrize(
    "text",
    [
        "transformer.transformer_blocks.19.attn.to_q.lora_A.weight",  # FLUX.1 has 0 to 18
        "lora_unet_single_blocks_38_linear1.lora_up.weight",
        "transformer.transformer_blocks.0.attn.to_q.weight",
        "lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight",  # SDXL
        "transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj.lora_A.weight",  # FLUX.2
        ".alpha",
        "",
    ],
)
def test_keys_that_are_not_of_flux(text: str) -> None:
    assert not parse_key(text).known


def test_names_are_unique() -> None:
    named = [
        layer.module(dialect, part)
        for layer in block_layers(FLUX)
        for dialect in (Dialect.DIFFUSERS, Dialect.FLATTENED, Dialect.LYCORIS)
        for part in range(len(layer.parts))
    ]
    assert len(named) == len(set(named)) == 3 * 494
