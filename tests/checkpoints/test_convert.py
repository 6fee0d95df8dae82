import json
import shutil
from collections import OrderedDict

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import expedit
from expedit.checkpoints.convert import convert
from expedit.checkpoints.reading import Options
from expedit.checkpoints.segmenter import official_name
from expedit.checkpoints.zoo import read
from expedit.cli import main
from expedit.models import Segmenter
from expedit.models.segmenter import Numerics

VARIANT = """\
dataset_kwargs: {dataset: DATASET, normalization: vit}
inference_kwargs: {im_size: 80, window_size: 64, window_stride: 48}
net_kwargs:
  n_heads: 4
  image_size: !!python/tuple [64, 64]
"""


@pytest.fixture(scope="module")
def official(shared):
    return shared / "goldens" / "mask2former" / "segmenter_rstrudel_checkpoint"


@pytest.fixture(scope="module")
def outputs(official):
    return load_file(official.parent / "segmenter_rstrudel_checkpoint_outputs.safetensors")


@pytest.fixture
def small():
    return Segmenter(classes=5, image_size=(64, 64), width=64, depth=2, heads=4, head_layers=1, head_heads=1)


def write_folder(model, folder, dataset="ade20k"):
    folder.mkdir()
    torch.save({"model": model.state_dict(), "n_cls": 5, "epoch": 0}, folder / "checkpoint.pth")
    (folder / "variant.yml").write_text(VARIANT.replace("DATASET", dataset))
    return folder


def preprocessed(state):
    """The renaming that the reference repository does, written from the list of its replacements."""
    renamed = OrderedDict()
    for name, value in state.items():
        if name.startswith("encoder.") and not name.startswith("encoder.head."):
            name = name.replace("encoder.", "backbone.", 1).replace("backbone.norm.", "backbone.ln1.")
            name = name.replace("patch_embed.proj.", "patch_embed.projection.").replace(".blocks.", ".layers.")
            name = name.replace(".norm1.", ".ln1.").replace(".norm2.", ".ln2.")
            name = name.replace(".attn.qkv.", ".attn.attn.in_proj_").replace(".attn.proj.", ".attn.attn.out_proj.")
            name = name.replace(".mlp.fc1.", ".ffn.layers.0.0.").replace(".mlp.fc2.", ".ffn.layers.1.")
        elif name.startswith("decoder."):
            name = name.replace("decoder.", "decode_head.", 1)
        renamed[name] = value
    return renamed


@torch.inference_mode()
def logits(model, image):
    return model(image)


def test_official_folder_reproduces_the_official_outputs(official, outputs):
    model = expedit.load(official)
    torch.testing.assert_close(logits(model, outputs["input.image"]), outputs["output.logits"], atol=1e-4, rtol=0)
    torch.testing.assert_close(logits(model, outputs["resized.image"]), outputs["resized.logits"], atol=1e-4, rtol=0)


def test_settings_of_the_published_tables_are_an_option(official, outputs):
    from expedit.checkpoints.zoo import load

    model = load(official, norm_eps=1e-6, pos_embed="bicubic")
    expected = outputs["output.logits_encoder_eps1e-6"]
    torch.testing.assert_close(logits(model, outputs["input.image"]), expected, atol=2e-5, rtol=0)
    assert not torch.allclose(logits(model, outputs["resized.image"]), outputs["resized.logits"], atol=1e-3)


def test_protocol_comes_from_the_variant(official):
    loaded = read(official, Options())
    model, card = loaded.model, loaded.model.card
    assert loaded.unused == ("encoder.head.bias", "encoder.head.weight")
    assert (card.crop, card.stride, card.resize, card.mean) == (96, 96, (384, 96), (127.5,) * 3)
    assert len(card.classes) == 7
    assert (model.encoder.heads, model.decoder.heads) == (4, 1)


def test_a_converted_file_gives_the_same_bits(official, outputs, tmp_path):
    direct = expedit.load(official)
    done = convert(official, tmp_path / "small.safetensors")
    loaded = expedit.load(done.target)
    for image in (outputs["input.image"], outputs["resized.image"]):
        assert torch.equal(logits(direct, image), logits(loaded, image))
    again = convert(done.target, tmp_path / "again.safetensors")
    assert torch.equal(
        logits(expedit.load(again.target), outputs["resized.image"]), logits(direct, outputs["resized.image"])
    )
    assert loaded.settings() == direct.settings()
    with safe_open(done.target, "pt") as file:
        metadata = file.metadata()
    assert metadata["sha256"] == done.sha256
    assert metadata["source"] == "segmenter_rstrudel_checkpoint/checkpoint.pth"
    assert "width=64" in metadata["architecture"]
    card = json.loads(metadata["card"])
    assert (card["crop"], card["stride"], card["mean"], len(card["classes"])) == (96, 96, [127.5] * 3, 7)


def test_the_reference_repository_s_keys_are_the_same_network(official, outputs, tmp_path):
    content = torch.load(official / "checkpoint.pth", weights_only=False)
    path = tmp_path / "checkpoint.pth"
    torch.save({"state_dict": preprocessed(content["model"]), "epoch": 3}, path)
    shutil.copy(official / "variant.yml", tmp_path)
    for source in (path, tmp_path):
        model = expedit.load(source)
        assert (model.encoder.norm.eps, model.encoder.interpolation) == (1e-6, "bicubic")
        expected = outputs["output.logits_encoder_eps1e-6"]
        torch.testing.assert_close(logits(model, outputs["input.image"]), expected, atol=2e-5, rtol=0)


def test_names_go_there_and_back(small):
    names = list(small.state_dict())
    assert [official_name(name) for name in preprocessed(small.state_dict())] == names
    assert [official_name(name) for name in names] == names


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s}, lambda s: {"state_dict": preprocessed(s)}])
def test_a_file_alone_is_read_with_heads_of_64(small, tmp_path, wrap):
    torch.save(wrap(small.state_dict()), tmp_path / "bare.pth")
    model = expedit.load(tmp_path / "bare.pth")
    assert (model.encoder.heads, model.decoder.heads) == (1, 1)
    assert (model.card.crop, model.card.stride, model.card.resize) == (64, 64, (256, 64))


def test_published_sizes_are_recognised(tmp_path):
    model = Segmenter(classes=19, image_size=(768, 768), width=64, depth=1, heads=1, head_layers=1)
    torch.save(model.state_dict(), tmp_path / "cityscapes.pth")
    card = expedit.load(tmp_path / "cityscapes.pth").card
    assert (card.crop, card.stride, card.resize) == (768, 512, (2048, 1024))
    assert card.classes[:2] == ("road", "sidewalk")


def test_class_names_need_the_right_number(small, tmp_path):
    card = expedit.load(write_folder(small, tmp_path / "five")).card
    assert card.classes == tuple(f"class {i}" for i in range(5))
    assert card.resize == (320, 80)
    assert card.stride == 48


@pytest.mark.parametrize(("dataset", "classes", "first"), [("ade20k", 150, "wall"), ("cityscapes", 19, "road")])
def test_class_names_and_colours_of_known_data_sets(tmp_path, dataset, classes, first):
    model = Segmenter(classes=classes, image_size=(64, 64), width=64, depth=1, heads=4, head_layers=1, head_heads=1)
    card = expedit.load(write_folder(model, tmp_path / dataset, dataset)).card
    assert card.classes[0] == first
    assert len(card.palette) == classes


def test_code_in_a_variant_does_not_run(small, tmp_path):
    folder = write_folder(small, tmp_path / "evil")
    (folder / "variant.yml").write_text(VARIANT + f"x: !!python/object/apply:os.mkdir [{tmp_path}/owned]\n")
    with pytest.raises(ValueError, match=r"variant\.yml: expected plain YAML"):
        expedit.load(folder)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("length", [0, 10, 5000, 200_000])
def test_cut_short(official, tmp_path, length):
    path = tmp_path / "short.pth"
    path.write_bytes((official / "checkpoint.pth").read_bytes()[:length])
    with pytest.raises(ValueError, match=r"short\.pth: expected"):
        expedit.load(path)


def test_wrong_keys_are_all_listed(small, tmp_path):
    state = small.state_dict()
    del state["encoder.blocks.1.norm1.bias"], state["decoder.mask_norm.weight"]
    state["encoder.second_norm"] = torch.zeros(1)
    torch.save(state, tmp_path / "wrong.pth")
    with pytest.raises(ValueError, match=r"wrong\.pth") as caught:
        expedit.load(tmp_path / "wrong.pth")
    for name in ("encoder.blocks.1.norm1.bias", "decoder.mask_norm.weight", "encoder.second_norm"):
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("n_heads: 4", "n_heads: many", r"net_kwargs\.n_heads: expected an integer >= 1, got 'many'"),
        ("n_heads: 4", "n_heads: 5", "divides into 5 heads"),
        ("window_size: 64", "window_size: 0", r"inference_kwargs\.window_size: expected an integer >= 1, got 0"),
        ("normalization: vit", "normalization: magic", "expected one of 'vit', 'deit', got 'magic'"),
        ("net_kwargs:", "other:", "sections net_kwargs"),
        ("net_kwargs:", "{[", "expected plain YAML"),
    ],
)
def test_a_bad_variant_is_named(small, tmp_path, old, new, complaint):
    folder = write_folder(small, tmp_path / "bad")
    (folder / "variant.yml").write_text(VARIANT.replace(old, new))
    with pytest.raises(ValueError, match=complaint):
        expedit.load(folder)


@pytest.mark.parametrize("name", ["checkpoint.pth", "variant.yml"])
def test_a_folder_needs_both_files(small, tmp_path, name):
    folder = write_folder(small, tmp_path / "half")
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"missing: {name}"):
        expedit.load(folder)


def test_command_writes_once_and_never_onto_its_input(small, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = write_folder(small, tmp_path / "mine")
    before = (folder / "checkpoint.pth").read_bytes()
    assert main(["convert", str(folder), "--norm-eps", "1e-6"]) == 0
    printed = capsys.readouterr().out
    assert "mine.safetensors" in printed
    assert "unused: none" in printed
    assert "1e-06" in printed
    assert expedit.load("mine.safetensors").encoder.norm.eps == 1e-6
    assert main(["convert", str(folder)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["convert", str(folder), "--force"]) == 0
    for force in ([], ["--force"]):
        assert main(["convert", "mine.safetensors", "-o", str(tmp_path / "mine.safetensors"), *force]) == 2
        assert "never overwritten" in capsys.readouterr().err
    assert main(["convert", str(folder), "-o", str(folder / "checkpoint.pth"), "--force"]) == 2
    assert (folder / "checkpoint.pth").read_bytes() == before
    assert main(["convert", "nothing.pth"]) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "mine.safetensors"]


def test_bare_official_keys_in_safetensors(small, tmp_path):
    state = {**small.state_dict(), "encoder.head.weight": torch.zeros(3, 64)}
    save_file(state, tmp_path / "bare.safetensors")
    done = convert(tmp_path / "bare.safetensors", tmp_path / "out.safetensors", pos_embed="bilinear")
    assert expedit.load(done.target).settings()["pos_embed"] == "bilinear"


@pytest.mark.parametrize("size", [(360, 480), (72, 128), (128, 72)])
@pytest.mark.parametrize("head_layers", [None, 1])
def test_an_official_folder_that_is_not_square(tmp_path, size, head_layers):
    sizes = {"patch": 8, "width": 64, "depth": 1, "heads": 4, "head_layers": head_layers, "head_heads": 1}
    model = Segmenter(classes=5, image_size=size, numerics=Numerics(1e-5, 1e-5, "bilinear"), **sizes).eval()
    folder = write_folder(model, tmp_path / "official")
    variant = VARIANT.replace("[64, 64]", f"[{size[0]}, {size[1]}]")
    (folder / "variant.yml").write_text(variant)
    direct = expedit.load(folder)
    again = expedit.load(convert(folder, tmp_path / "ours.safetensors").target)
    image = torch.randn(1, 3, *size)
    assert torch.equal(logits(model, image), logits(direct, image))
    assert torch.equal(logits(direct, image), logits(again, image))
    (folder / "variant.yml").write_text(variant.replace(f"[{size[0]}, ", "[16, "))
    with pytest.raises(ValueError, match=r"got .* positions; give the image_size"):
        expedit.load(folder)


@pytest.mark.parametrize("value", ["0", "[64]", "[64, many]", "[64, -64]", "{a: 1}", "[64, 64, 3]"])
def test_a_bad_image_size_is_named(small, tmp_path, value):
    folder = write_folder(small, tmp_path / "bad")
    (folder / "variant.yml").write_text(VARIANT.replace("!!python/tuple [64, 64]", value))
    with pytest.raises(ValueError, match=r"variant\.yml: net_kwargs\.image_size: expected"):
        expedit.load(folder)
