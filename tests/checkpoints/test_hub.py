"""Folders and hub names of transformers: what is read, and the sentence for what is not."""

import json
import sys

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file

import expedit
from expedit.checkpoints.mask2former import is_published
from expedit.checkpoints.zoo import is_library
from expedit.models.families import CONVOLUTIONAL, FAMILIES, NOT_REDUCIBLE, ONLY_ACCELERATED
from expedit.models.mask2former import Mask2Former
from expedit.models.pretrained import Pretrained
from families import SIZES, SQUARE, hf, network, write_folder

TEXT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 99}
SWIN = {"embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4, "image_size": 64}
SEGFORMER = {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 1, 1]}
OTHERS = {
    "BertModel does not take images": lambda: hf.BertModel(hf.BertConfig(**TEXT)),
    "ResNetModel is a convolutional network, it has no tokens": lambda: hf.ResNetModel(
        hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1])
    ),
    "SegformerModel cannot be reduced: its MLPs hold convolutions": lambda: hf.SegformerModel(
        hf.SegformerConfig(**SEGFORMER)
    ),
    "Swinv2Model cannot be reduced: its attention is a cosine": lambda: hf.Swinv2Model(hf.Swinv2Config(**SWIN)),
    "looks at crops of persons, for which expedit.predict": lambda: network("vitpose"),
    "looks at clips, for which expedit.predict": lambda: network("videomt"),
    "ViTMAEForPreTraining is none of the networks that expedit knows": lambda: hf.ViTMAEForPreTraining(
        hf.ViTMAEConfig(
            **SIZES, **SQUARE, decoder_hidden_size=16, decoder_num_hidden_layers=1, decoder_num_attention_heads=2
        )
    ),
}
"""Networks that cannot work, by a part of the sentence."""


@pytest.mark.parametrize("words", OTHERS)
def test_what_cannot_work_says_why_and_what_does(words, tmp_path):
    OTHERS[words]().save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{}")
    with pytest.raises(ValueError, match=words) as error:
        expedit.load(tmp_path)
    assert str(error.value).startswith(str(tmp_path))
    assert "DINOv2" in str(error.value) or "expedit.accelerate" in str(error.value)


def rewritten(file, **values):
    """Change values of a JSON file; those that are ``None`` go."""
    content = {**json.loads(file.read_text()), **values}
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def without(folder, part):
    state = load_file(folder / "model.safetensors")
    kept = {key: value for key, value in state.items() if part not in key}
    assert len(kept) < len(state)
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


HALVES = {
    "no preprocessor_config.json": lambda folder: (folder / "preprocessor_config.json").unlink(),
    "the weights cannot be read": lambda folder: (folder / "model.safetensors").unlink(),
    "cannot be read: .*deserializ": lambda folder: (folder / "model.safetensors").write_bytes(b"nothing of the kind"),
    "2 are missing: layernorm.bias": lambda folder: without(folder, "layernorm"),
    "names no class": lambda folder: rewritten(folder / "config.json", architectures=None),
    "FancyModel is code that comes with the checkpoint": lambda folder: rewritten(
        folder / "config.json", architectures=["FancyModel"], auto_map={"AutoModel": "modeling.FancyModel"}
    ),
    "FancyModel is no network of transformers": lambda folder: rewritten(
        folder / "config.json", architectures=["FancyModel"]
    ),
    "pipeline is no network of transformers": lambda folder: rewritten(
        folder / "config.json", architectures=["pipeline"]
    ),
    "not a valid JSON": lambda folder: (folder / "config.json").write_text("{"),
    "hidden_size": lambda folder: rewritten(folder / "config.json", hidden_size="wide"),
    "prepared by pipeline, which is not there": lambda folder: rewritten(
        folder / "preprocessor_config.json", image_processor_type="pipeline"
    ),
}
"""How to spoil a folder, by a part of the sentence."""


@pytest.mark.parametrize("words", HALVES)
def test_half_a_folder_is_refused(words, tmp_path):
    write_folder("dinov2", tmp_path)
    HALVES[words](tmp_path)
    with pytest.raises(ValueError, match=words) as error:
        expedit.load(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert len(str(error.value)) < 800


def test_code_of_a_checkpoint_is_never_run(tmp_path):
    """Neither of the network nor of the processor, though both files name some."""
    write_folder("dinov2", tmp_path)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    rewritten(tmp_path / "config.json", auto_map={"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"})
    rewritten(tmp_path / "preprocessor_config.json", auto_map={"AutoImageProcessor": "evil.Evil"})
    assert isinstance(expedit.load(tmp_path), Pretrained)  # a class of the library: its own code alone
    assert not (tmp_path / "ran").exists()


def test_settings_that_do_not_fit_are_refused(tmp_path):
    write_folder("eomt", tmp_path)
    with pytest.raises(ValueError, match="of EoMT there is panoptic, instance, semantic, got 'depth'"):
        expedit.load(tmp_path, task="depth")
    with pytest.raises(ValueError, match="a folder has no revisions"):
        expedit.load(tmp_path, revision="main")
    with pytest.raises(ValueError, match="norm_eps has no meaning"):
        expedit.load(tmp_path, norm_eps=1e-5)
    with pytest.raises(ValueError, match="architecture goes with our Mask2Former"):
        expedit.load(tmp_path, task="semantic", architecture="mask2former-swin-l-coco-panoptic")
    rewritten(tmp_path / "preprocessor_config.json", image_processor_type="ViTImageProcessor")
    with pytest.raises(ValueError, match="expected a EomtImageProcessor, which reads EoMT"):
        expedit.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "task"),
    [("coco-instance", "instance"), ("ade-semantic", "semantic"), ("coco-panoptic-semantic", "panoptic")],
)
def test_the_name_tells_the_task_where_it_tells_one(name, task, tmp_path):
    write_folder("eomt", tmp_path / name)
    assert expedit.load(tmp_path / name).card.task == task


def test_heads_are_left_out(tmp_path):
    """Checkpoints of classifiers are read as the networks that they stand on."""
    made = hf.ViTForImageClassification(hf.ViTConfig(**SIZES, **SQUARE)).eval()
    made.save_pretrained(tmp_path)
    hf.ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(tmp_path)
    model, pixels = expedit.load(tmp_path), torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(model(pixels).last_hidden_state, made.vit(pixels).last_hidden_state)


def cached(folder, name):
    """A hub's answer as its library keeps it on disk."""
    repository = folder / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    (repository / "refs" / "old").write_text("a" * 40)
    return snapshot


def test_a_hub_name_is_fetched_by_the_library(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    made = write_folder("dinov2", cached(tmp_path, "somebody/dinov2-tiny"))
    model = expedit.load("somebody/dinov2-tiny", revision="old")
    assert torch.equal(model.network.layernorm.weight, made.layernorm.weight)
    assert model.card.source == "somebody/dinov2-tiny"
    with pytest.raises(ValueError, match=r"somebody/none: .*there is no folder 'somebody/none' either"):
        expedit.load("somebody/none")
    write_folder("vit", tmp_path / "somebody" / "dinov2-tiny")
    assert expedit.load("somebody/dinov2-tiny").family.title == "ViT"  # a path that exists is a path


def test_a_missing_file_is_no_hub_name():
    assert is_library("facebook/dinov2-small")
    for name in ("dinov2-small", "weights/model.pth", "a/b/c", "weights/mine.safetensors", "../dinov2", "x/y.PKL"):
        assert not is_library(name), name
    with pytest.raises(FileNotFoundError, match="neither a file nor a model"):
        expedit.load("weights/model.pth")


def test_a_published_mask2former_is_ours_unless_a_task_is_asked_for(tmp_path, monkeypatch):
    config = hf.Mask2FormerConfig(
        backbone_config=hf.SwinConfig(**SWIN, out_features=["stage1", "stage2", "stage3", "stage4"]),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=32,
        dim_feedforward=32,
        num_attention_heads=2,
        encoder_layers=1,
        decoder_layers=3,
        num_queries=7,
    )
    hf.Mask2FormerForUniversalSegmentation(config).save_pretrained(tmp_path)
    hf.Mask2FormerImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(tmp_path)
    assert expedit.load(tmp_path).card.task == "panoptic"
    monkeypatch.setattr("expedit.checkpoints.zoo.mask2former.is_published", lambda config: True)
    with pytest.raises(ValueError, match="no published Mask2Former has 2 classes, 7 queries"):
        expedit.load(tmp_path)
    assert isinstance(expedit.load(tmp_path, task="instance"), Pretrained)


def test_what_counts_as_published():
    from expedit.checkpoints.mask2former import PUBLISHED

    config = PUBLISHED["mask2former-swin-l-coco-panoptic"].config().to_dict()
    assert is_published(config)
    assert not is_published({**config, "num_queries": 77})
    assert not is_published({"model_type": "dinov2"})
    assert Mask2Former is not Pretrained


def test_without_the_library_the_command_that_installs_it(tmp_path, monkeypatch):
    write_folder("dinov2", tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    for source in (tmp_path, "owner/name"):
        with pytest.raises(ImportError, match=r"pip install 'expedit\[hf\]'"):
            expedit.load(source)


@pytest.mark.parametrize("name", [*FAMILIES, *ONLY_ACCELERATED])
def test_every_row_names_a_class_of_the_library(name):
    family = FAMILIES.get(name)
    assert isinstance(getattr(hf, name), type)
    assert family is None or family.reads is None or isinstance(getattr(hf, family.reads), type)


def test_every_kind_that_is_refused_is_one_of_the_library():
    assert {*CONVOLUTIONAL, *NOT_REDUCIBLE} <= set(hf.CONFIG_MAPPING)
