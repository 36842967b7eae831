"""Rows against what the models give themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from tests.vision.tiny import N_PATCHES, SIZES, picture, resnet, save_model, vit
from wsae_plugin.errors import BadInputError, RunFailedError
from wsae_plugin.images import load_image
from wsae_plugin.remote_code import trusting
from wsae_plugin.vision.encoder import Encoder, Tokens, open_encoder


@pytest.fixture
def image(tmp_path: Path) -> Image.Image:
    return load_image(picture(tmp_path / "a.png", 5))


def rows_of(model: Path, image: Image.Image, tokens: Tokens, *hooks: str) -> dict[str, Tensor]:
    encoder = open_encoder(str(model), hooks, tokens, "cpu")
    return encoder.rows([encoder.pixels(image)])


def output_of(model: Path, image: Image.Image) -> Any:
    processor = transformers.AutoImageProcessor.from_pretrained(model, backend="pil")
    loaded = transformers.AutoModel.from_pretrained(model)
    encode = getattr(loaded, "get_image_features", loaded)
    with torch.no_grad():
        return encode(**processor(images=image, return_tensors="pt"), output_hidden_states=True)


def same(rows: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(rows, wanted, rtol=0, atol=1e-5)


def test_tokens_of_a_transformer(image: Image.Image, tmp_path: Path) -> None:
    model = vit(tmp_path / "vit")
    states = output_of(model, image).last_hidden_state
    wanted = {
        "cls": states[:, :1],
        "mean": states[:, 1:].mean(1, keepdim=True),
        "patches": states[:, 1:],
    }
    for tokens in wanted:
        (name,), (rows,) = zip(*rows_of(model, image, tokens).items(), strict=True)  # pyright: ignore[reportArgumentType]
        assert name == "last_hidden_state" and rows.dtype == torch.float32
        same(rows, wanted[tokens])


def test_hooks_at_modules_and_outputs(image: Image.Image, tmp_path: Path) -> None:
    model = vit(tmp_path / "vit")
    output = output_of(model, image)
    hooks = ("layers.0", "pooler", "last_hidden_state", "embeddings.patch_embeddings", "layers.0")
    rows = rows_of(model, image, "mean", *hooks)
    assert [*rows] == [*dict.fromkeys(hooks)]
    same(rows["layers.0"], output.hidden_states[1][:, 1:].mean(1, keepdim=True))
    same(rows["pooler"], output.pooler_output[:, None])
    same(rows["last_hidden_state"], output.last_hidden_state[:, 1:].mean(1, keepdim=True))
    assert rows["embeddings.patch_embeddings"].shape == (1, 1, 32)
    # Patches without CLS are all of the tokens.
    patches = rows_of(model, image, "patches", "embeddings.patch_embeddings", "layers.1")
    assert {rows.shape for rows in patches.values()} == {(1, N_PATCHES, 32)}


def test_positions_of_a_convolution(image: Image.Image, tmp_path: Path) -> None:
    model = resnet(tmp_path / "resnet")
    states = output_of(model, image).last_hidden_state
    assert states.shape[:2] == (1, 16) and states.shape[2] > 1
    same(rows_of(model, image, "mean")["last_hidden_state"], states.mean((2, 3))[:, None])
    patches = rows_of(model, image, "patches")["last_hidden_state"]
    width = states.shape[3]
    for position in range(patches.shape[1]):
        same(patches[0, position], states[0, :, position // width, position % width])
    # The first value of a tuple, or of an output with names.
    same(rows_of(model, image, "mean", "encoder")["encoder"], states.mean((2, 3))[:, None])
    with pytest.raises(BadInputError, match=r"--tokens cls: 'last_hidden_state' .*mean or patches"):
        rows_of(model, image, "cls")


def test_channels_may_be_last(tmp_path: Path) -> None:
    encoder = open_encoder(str(resnet(tmp_path / "resnet")), (), "patches", "cpu")
    values = torch.randn(1, 5, 3, 3)
    inputs = {"pixel_values": torch.zeros(1, 3, 8, 8)}
    first, last = (encoder._rows_of("a", v, inputs) for v in (values, values.movedim(1, 3)))
    assert first.shape == (1, 9, 5)
    assert torch.equal(first, last)
    # As many channels as rows and columns: as almost all modules have them, first.
    cube = torch.randn(2, 4, 4, 4)
    assert torch.equal(encoder._rows_of("a", cube, {"x": cube}), cube.flatten(2).mT)


def clip(folder: Path) -> Path:
    vision = SIZES | {"num_hidden_layers": 1}
    text = {name: vision[name] for name in ("hidden_size", "num_attention_heads")}
    text |= {"num_hidden_layers": 1, "intermediate_size": 16, "vocab_size": 10}
    text |= {"bos_token_id": 1, "eos_token_id": 2}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    transformers.CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(folder)
    return folder


def test_the_image_side_of_a_model_of_two(image: Image.Image, tmp_path: Path) -> None:
    model = clip(tmp_path / "clip")
    output = output_of(model, image)
    same(rows_of(model, image, "cls")["last_hidden_state"], output.last_hidden_state[:, :1])
    projected = rows_of(model, image, "patches", "visual_projection", "pooler_output")
    for rows in projected.values():
        same(rows, output.pooler_output[:, None])
    assert projected["pooler_output"].shape == (1, 1, 24)
    with pytest.raises(BadInputError, match=r"'text_model': is run 0 times"):
        rows_of(model, image, "mean", "text_model")


def registers() -> Any:
    config = transformers.Dinov2WithRegistersConfig(**SIZES, num_register_tokens=3)
    return transformers.Dinov2WithRegistersModel(config)


def distilled() -> Any:
    return transformers.DeiTModel(transformers.DeiTConfig(**SIZES))


def without_cls() -> Any:
    return transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**SIZES))


def merged() -> Any:
    config = transformers.SwinConfig(
        image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 1], window_size=4
    )
    return transformers.SwinModel(config)


@pytest.mark.parametrize(
    ("make", "n_leading", "n_patches"),
    [(registers, 4, 16), (distilled, 2, 16), (without_cls, 0, 16), (merged, 0, 16)],
)
def test_what_is_no_patch_is_left_out(
    make: Callable[[], Any], n_leading: int, n_patches: int, image: Image.Image, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = save_model(make(), tmp_path / "model")
    states = output_of(model, image).last_hidden_state
    assert states.shape[1] == n_leading + n_patches
    same(rows_of(model, image, "patches")["last_hidden_state"], states[:, n_leading:])
    if n_leading:
        same(rows_of(model, image, "cls")["last_hidden_state"], states[:, :1])
    else:
        with pytest.raises(BadInputError, match=r"16 tokens without a CLS token"):
            rows_of(model, image, "cls")


def test_tokens_that_no_config_explains_are_refused(image: Image.Image, tmp_path: Path) -> None:
    """YOLOS appends tokens of its own; a masked autoencoder drops patches at random."""
    yolos = transformers.YolosModel(transformers.YolosConfig(**SIZES | {"image_size": [32, 32]}))
    masked = transformers.ViTMAEModel(transformers.ViTMAEConfig(**SIZES, mask_ratio=0.4))
    for n, model in enumerate((yolos, masked)):
        folder = save_model(model, tmp_path / str(n))
        for tokens in ("cls", "mean", "patches"):
            with pytest.raises(BadInputError, match="does not say which"):
                rows_of(folder, image, tokens)  # pyright: ignore[reportArgumentType]


def test_timm_s_own_count_of_tokens(tmp_path: Path) -> None:
    """A stand-in: timm needs torchvision."""
    encoder = open_encoder(str(vit(tmp_path / "vit")), (), "patches", "cpu")
    values, inputs = torch.randn(1, 21, 32), {"pixel_values": torch.zeros(1, 3, 32, 32)}

    class Timm(torch.nn.Module):
        num_prefix_tokens, cls_token = 5, None

    encoder.model.timm_model = Timm()
    assert torch.equal(encoder._rows_of("a", values, inputs), values[:, 5:])
    of_cls = Encoder(**vars(encoder) | {"tokens": "cls"})
    with pytest.raises(BadInputError, match="without a CLS token"):
        of_cls._rows_of("a", values, inputs)
    Timm.cls_token = torch.zeros(1)  # pyright: ignore[reportAttributeAccessIssue]
    assert torch.equal(of_cls._rows_of("a", values, inputs), values[:, :1])


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ("layer.0", "the model has no such module; did you mean 'layers.0'"),
        ("logits", "the model's output has none; .*last_hidden_state"),
    ],
)
def test_hooks_that_are_refused(hook: str, said: str, image: Image.Image, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=f"--hook '{hook}': .*({said})"):
        rows_of(vit(tmp_path / "vit"), image, "mean", hook)


def test_windows_are_no_images(image: Image.Image, tmp_path: Path) -> None:
    hook = "encoder.layers.0.blocks.0.attention"
    with pytest.raises(BadInputError, match=f"'{hook}': gives no tensor of"):
        rows_of(save_model(merged(), tmp_path / "swin"), image, "mean", hook)


def test_a_module_that_is_run_twice(image: Image.Image, tmp_path: Path) -> None:
    encoder = open_encoder(str(vit(tmp_path / "vit")), ("layers.0",), "mean", "cpu")
    encoder.model.layers[1] = encoder.model.layers[0]
    with pytest.raises(BadInputError, match=r"'layers.0': is run 2 times"):
        encoder.rows([encoder.pixels(image)])


def test_weights_that_are_not_there(image: Image.Image, tmp_path: Path) -> None:
    """They matter where they are needed, and there they are not made up."""
    config = transformers.ViTConfig(**SIZES)
    model = save_model(transformers.ViTModel(config, add_pooling_layer=False), tmp_path / "vit")
    assert rows_of(model, image, "mean")["last_hidden_state"].isfinite().all()
    with pytest.raises(BadInputError, match=r"'pooler': needs weights .*pooler\.dense\.bias"):
        rows_of(model, image, "mean", "pooler")


def test_numbers_that_are_not_finite(image: Image.Image, tmp_path: Path) -> None:
    encoder = open_encoder(str(vit(tmp_path / "vit")), (), "mean", "cpu")
    encoder.model.layernorm.weight.data[3] = torch.inf
    with pytest.raises(RunFailedError, match="'last_hidden_state': gives numbers"):
        encoder.rows([encoder.pixels(image)])


def test_a_batch_that_is_too_large(
    image: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = open_encoder(str(vit(tmp_path / "vit")), (), "mean", "cpu")

    def forward(**_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(encoder.model, "forward", forward)
    with pytest.raises(RunFailedError, match="--batch-size: 2 images do not fit on cpu"):
        encoder.rows([encoder.pixels(image)] * 2)


def test_half_precision_is_read_in_full(tmp_path: Path) -> None:
    model = transformers.AutoModel.from_pretrained(vit(tmp_path / "vit")).half()
    save_model(model, tmp_path / "half")
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "float16"
    encoder = open_encoder(str(tmp_path / "half"), (), "mean", "cpu")
    assert {weight.dtype for weight in encoder.model.parameters()} == {torch.float32}


def test_models_that_cannot_be_loaded(tmp_path: Path) -> None:
    timm = tmp_path / "timm"
    timm.mkdir()
    config = {"architecture": "resnet18", "pretrained_cfg": {"input_size": [3, 224, 224]}}
    (timm / "config.json").write_text(json.dumps(config))
    pickled = vit(tmp_path / "pickled")
    weights = transformers.ViTModel(transformers.ViTConfig(**SIZES)).state_dict()
    (pickled / "model.safetensors").unlink()
    torch.save(weights, pickled / "pytorch_model.bin")
    unprepared = vit(tmp_path / "unprepared")
    (unprepared / "preprocessor_config.json").unlink()
    for model, said in {
        timm: "timm library .*wsae-plugin.vision.",
        pickled: "safetensors.*--trust-remote-code",
        unprepared: "image processor",
        tmp_path / "nothing": "nothing",
    }.items():
        with pytest.raises(BadInputError, match=f"^--model '{model}': .*{said}") as error:
            open_encoder(str(model), (), "mean", "cpu")
        assert "\n" not in str(error.value)


def plant(folder: Path, made: Path) -> Path:
    """A model and an image processor that make a file when they are imported."""
    vit(folder)
    weights = transformers.AutoModel.from_pretrained(folder).state_dict()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "planted.py").write_text(
        f"from pathlib import Path\nPath({str(made)!r}).touch()\n"
        "from transformers import ViTConfig, ViTImageProcessorPil, ViTModel\n"
        "class Config(ViTConfig):\n    model_type = 'planted'\n"
        "class Model(ViTModel):\n    config_class = Config\n"
        "class Processor(ViTImageProcessorPil):\n    pass\n"
    )
    return folder


@pytest.mark.parametrize("what", ["model", "processor"])
def test_code_of_a_model_is_run_only_if_trusted(
    what: str, image: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever is asked whether code may be run says yes without reading.
    monkeypatch.setattr("builtins.input", lambda _: "y")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "c"))
    folder = plant(tmp_path / "model", made := tmp_path / "made")
    maps = {
        "model": ("config.json", {"AutoConfig": "planted.Config", "AutoModel": "planted.Model"}),
        "processor": ("preprocessor_config.json", {"AutoImageProcessor": "planted.Processor"}),
    }
    file, auto_map = maps[what]
    said = json.loads((folder / file).read_text()) | {"auto_map": auto_map}
    said |= {"model_type": "planted"} if what == "model" else {"image_processor_type": "Processor"}
    (folder / file).write_text(json.dumps(said))
    with pytest.raises(BadInputError, match="--trust-remote-code"):
        open_encoder(str(folder), (), "mean", "cpu")
    assert not made.exists()
    with trusting(True):
        assert rows_of(folder, image, "cls")["last_hidden_state"].shape == (1, 1, 32)
    assert made.exists()
