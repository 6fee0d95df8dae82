"""Networks under the keys and prefixes of trainers, and those that are none of ours."""

import pickle
import re

import pytest
import torch

import expedit
from expedit.checkpoints import mask2former
from expedit.checkpoints.convert import convert
from expedit.checkpoints.reading import Options
from expedit.checkpoints.zoo import read
from expedit.cli import main
from expedit.models import Segmenter
from golden_mask2former import architecture_of, card_of, metadata_of, weights_of

SIZES = {"classes": 3, "image_size": (32, 32), "patch": 8, "width": 16, "depth": 2, "heads": 1}


def small(seed=0, head_layers=1):
    torch.manual_seed(seed)
    model = Segmenter(head_layers=head_layers, **SIZES).eval()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model


def official(state):
    return dict(state)


def expedit_repository(state):
    """Its renaming, written from the list of its replacements."""
    renamed = {}
    for name, value in state.items():
        if name.startswith("encoder."):
            name = name.replace("encoder.", "backbone.", 1).replace("backbone.norm.", "backbone.ln1.")
            name = name.replace("patch_embed.proj.", "patch_embed.projection.").replace(".blocks.", ".layers.")
            name = name.replace(".norm1.", ".ln1.").replace(".norm2.", ".ln2.")
            name = name.replace(".attn.qkv.", ".attn.attn.in_proj_").replace(".attn.proj.", ".attn.attn.out_proj.")
            name = name.replace(".mlp.fc1.", ".ffn.layers.0.0.").replace(".mlp.fc2.", ".ffn.layers.1.")
        renamed[name.replace("decoder.", "decode_head.", 1) if name.startswith("decoder.") else name] = value
    return renamed


def mmsegmentation(state):
    """Its own names: the head's blocks are called like the encoder's, its products are linear layers."""
    heads = {"decode_head.proj_dec.weight": "decode_head.dec_proj.weight"}
    heads |= {"decode_head.proj_dec.bias": "decode_head.dec_proj.bias"}
    heads |= {f"decode_head.proj_{name}": f"decode_head.{name}_proj.weight" for name in ("patch", "classes")}
    heads |= {f"decoder.head.{name}": f"decode_head.conv_seg.{name}" for name in ("weight", "bias")}
    renamed = {}
    for name, value in expedit_repository(state).items():
        if name.startswith("decode_head.blocks."):
            name = next(iter(expedit_repository({name.replace("decode_head.", "encoder."): value})))
            name = name.replace("backbone.", "decode_head.")
        if name in ("decode_head.proj_patch", "decode_head.proj_classes"):
            value = value.T.clone()
        if name == "decode_head.head.weight":
            value = value[:, :, None, None]
        renamed[heads.get(name, name.replace("decode_head.head.", "decode_head.conv_seg."))] = value
    return renamed


STYLES = {"original": official, "expedit": expedit_repository, "mmsegmentation": mmsegmentation}


def wrapped(state, prefix):
    return {prefix + name: value for name, value in state.items()}


def inside(state, *wrappers):
    """Wrappers around parts of the network, as compilers and activation checkpoints put them."""
    result = {}
    for name, value in state.items():
        first, *rest = name.split(".")
        result[".".join((first, *(wrappers if rest else ()), *rest))] = value
    return result


OTHER = {"criterion.weight": torch.zeros(3), "loss_fn.margin": torch.zeros(1)}
PLACES = {
    "bare": (lambda s: s, (), ()),
    "epoch beside": (lambda s: {"epoch": 3, **s}, (), ()),
    "model": (lambda s: {"model": s, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}}, ("model",), ()),
    "state_dict": (lambda s: {"meta": {"epoch": 1}, "state_dict": s}, ("state_dict",), ()),
    "model_state_dict": (lambda s: {"model_state_dict": s}, ("model_state_dict",), ()),
    "net in network": (lambda s: {"network": {"net": s}}, ("network", "net"), ()),
    "data parallel": (lambda s: {"model": wrapped(s, "module.")}, ("model",), ("module.",)),
    "compiled": (lambda s: wrapped(s, "_orig_mod."), (), ("_orig_mod.",)),
    "compiled and parallel": (lambda s: wrapped(s, "module._orig_mod."), (), ("module.", "_orig_mod.")),
    "parallel and compiled": (lambda s: wrapped(s, "_orig_mod.module."), (), ("_orig_mod.", "module.")),
    "parts compiled": (lambda s: inside(s, "_orig_mod"), (), ("_orig_mod.",)),
    "sharded": (lambda s: inside(s, "_fsdp_wrapped_module", "_checkpoint_wrapped_module"), (), None),
    "lightning": (
        lambda s: {"state_dict": {**wrapped(s, "model."), **OTHER}, "pytorch-lightning_version": "2.1"},
        ("state_dict",),
        ("model.",),
    ),
    "lightning with more": (
        lambda s: {"state_dict": wrapped(s, "segmenter.net._orig_mod.")},
        ("state_dict",),
        ("segmenter.net.", "_orig_mod."),
    ),
    "average alone": (lambda s: {"model_ema": s, "model": None}, ("model_ema",), ()),
    "ema": (lambda s: {"ema": s, "updates": 7}, ("ema",), ()),
    "averaged model": (lambda s: {"n_averaged": torch.tensor(3), **wrapped(s, "module.")}, (), ("module.",)),
    "ema prefix": (
        lambda s: {**wrapped(s, "ema_model."), "initted": torch.tensor(1), "step": torch.tensor(1)},
        (),
        ("ema_model.",),
    ),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("style", STYLES)
@torch.inference_mode()
def test_weights_are_found_and_what_was_peeled_is_reported(tmp_path, place, style):
    model, image = small(), torch.randn(1, 3, 32, 32)
    wrap, path, peeled = PLACES[place]
    torch.save(wrap(STYLES[style](model.state_dict())), tmp_path / "model.pt")
    loaded = read(tmp_path / "model.pt", Options(norm_eps=1e-6, pos_embed="bicubic"))
    assert torch.equal(loaded.model(image), model(image))
    assert loaded.path == path
    assert peeled is None or loaded.peeled == peeled
    assert loaded.others == ()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("head_layers", [None, 1, 3])
@torch.inference_mode()
def test_every_style_of_names_and_both_heads(tmp_path, style, head_layers):
    model, image = small(head_layers=head_layers), torch.randn(1, 3, 40, 32)
    torch.save({"state_dict": STYLES[style](model.state_dict())}, tmp_path / "m")
    numerics = expedit.load(tmp_path / "m").numerics
    assert (numerics.norm_eps, numerics.pos_embed) == ((1e-5, "bilinear") if style == "original" else (1e-6, "bicubic"))
    done = convert(tmp_path / "m", tmp_path / "ours.safetensors", norm_eps=1e-6, pos_embed="bicubic")
    assert torch.equal(expedit.load(done.target)(image), model(image))


def test_products_of_mmsegmentation_are_transposed(tmp_path):
    """Against its own formulas: linear layers, and normalised by torch."""
    model = small()
    state = mmsegmentation(model.state_dict())
    torch.save(state, tmp_path / "m")
    tokens, loaded = torch.randn(1, 10, 16), expedit.load(tmp_path / "m")
    with torch.inference_mode():
        x = torch.nn.functional.linear(tokens, state["decode_head.dec_proj.weight"], state["decode_head.dec_proj.bias"])
        x = torch.cat((x, state["decode_head.cls_emb"]), 1)
        x = model.decoder.decoder_norm(model.decoder.blocks[0](x))
        patches = torch.nn.functional.linear(x[:, :-3], state["decode_head.patch_proj.weight"])
        classes = torch.nn.functional.linear(x[:, -3:], state["decode_head.classes_proj.weight"])
        masks = torch.nn.functional.normalize(patches, dim=2) @ torch.nn.functional.normalize(classes, dim=2).mT
        torch.testing.assert_close(loaded.decoder(tokens), model.decoder.mask_norm(masks), atol=1e-5, rtol=0)


def test_a_layer_beside_a_mask_transformer_has_no_use(tmp_path):
    state = expedit_repository(small().state_dict())
    more = {"decode_head.conv_seg.weight": torch.zeros(3, 16, 1, 1), "backbone.head.weight": torch.zeros(9, 16)}
    more |= {"auxiliary_head.0.conv_seg.bias": torch.zeros(3)}
    torch.save({"state_dict": {**state, **more}}, tmp_path / "m")
    assert read(tmp_path / "m", Options()).unused == tuple(sorted(more))


@pytest.mark.parametrize(
    ("meta", "names", "first"),
    [
        ({"CLASSES": ("sky", "sea", "sand"), "PALETTE": [[1, 2, 3], [4, 5, 6], [7, 8, 9]]}, "sky", (1, 2, 3)),
        ({"dataset_meta": {"classes": ["sky", "sea", "sand"], "palette": None}}, "sky", None),
        ({"CLASSES": ("sky", "sea")}, "class 0", None),
        ({"CLASSES": (1, 2, 3)}, "class 0", None),
        ({"CLASSES": ("a\x1b[2J", "b", "c")}, "class 0", None),
        ({"CLASSES": ("sky", "sea", "sand"), "PALETTE": [[1, 2], [4, 5, 6], [7, 8, 900]]}, "sky", None),
        ("text", "class 0", None),
    ],
)
def test_class_names_of_mmsegmentation(tmp_path, meta, names, first):
    torch.save({"meta": meta, "state_dict": mmsegmentation(small().state_dict())}, tmp_path / "m")
    card = expedit.load(tmp_path / "m").card
    assert card.classes[0] == names
    assert len(card.classes) == len(card.palette) == 3
    assert first is None or card.palette[0] == first


SEVERAL = {
    "two keys": (lambda a, b: {"model": a, "model_ema": b}, "model_ema"),
    "average first": (lambda a, b: {"state_dict_ema": b, "state_dict": a}, "state_dict_ema"),
    "two prefixes": (lambda a, b: {**wrapped(a, "model."), **wrapped(b, "ema_model.")}, "ema_model"),
    "one prefix": (lambda a, b: {"state_dict": {**a, **wrapped(b, "model_ema.module.")}}, "model_ema"),
    "students": (lambda a, b: {"teacher": wrapped(b, "module."), "student": wrapped(a, "module.")}, "teacher"),
}


@pytest.mark.parametrize("kind", SEVERAL)
@torch.inference_mode()
def test_of_several_weights_the_average_is_taken_when_asked_for(tmp_path, kind, capsys):
    plain, average, image = small(1), small(2), torch.randn(1, 3, 32, 32)
    wrap, part = SEVERAL[kind]
    torch.save(wrap(plain.state_dict(), average.state_dict()), tmp_path / "m.pt")
    same = {"norm_eps": 1e-6, "pos_embed": "bicubic"}
    loaded = read(tmp_path / "m.pt", Options(**same))
    assert torch.equal(loaded.model(image), plain(image))
    assert any(part in other for other in loaded.others)
    assert torch.equal(expedit.load(tmp_path / "m.pt", part=part, **same)(image), average(image))
    with pytest.raises(ValueError, match=r"m\.pt: expected weights called 'best', but there are only"):
        expedit.load(tmp_path / "m.pt", part="best")
    assert main(["convert", str(tmp_path / "m.pt"), "-o", str(tmp_path / "o.safetensors")]) == 0
    assert re.search(rf"not taken: .*{part}.* \(--part NAME takes one\)", capsys.readouterr().out)
    again = ["convert", str(tmp_path / "m.pt"), "-o", str(tmp_path / "p.safetensors"), "--part", part]
    assert main([*again, "--norm-eps", "1e-6", "--pos-embed", "bicubic"]) == 0
    assert torch.equal(expedit.load(tmp_path / "p.safetensors")(image), average(image))


def test_keys_that_are_the_same_without_wrappers_are_refused(tmp_path):
    state = small().state_dict()
    torch.save({**state, **wrapped(state, "module.")}, tmp_path / "m")
    with pytest.raises(ValueError, match="keys that differ by more than"):
        expedit.load(tmp_path / "m")


def test_a_key_that_nobody_knows_is_refused_where_the_network_is(tmp_path):
    state = small().state_dict()
    for prefix in ("", "model."):
        torch.save({**wrapped(state, prefix), prefix + "neck.weight": torch.zeros(2)}, tmp_path / "m")
        with pytest.raises(ValueError, match=r"unknown keys \(1\): neck\.weight"):
            expedit.load(tmp_path / "m")


def test_converting_prints_what_was_peeled(tmp_path, capsys):
    content = {"state_dict": {**wrapped(small().state_dict(), "model._orig_mod."), **OTHER}}
    torch.save(content, tmp_path / "last.ckpt")
    assert main(["convert", str(tmp_path / "last.ckpt"), "-o", str(tmp_path / "o.safetensors")]) == 0
    printed = capsys.readouterr().out
    assert "checkpoint  Segmenter of the original, under 'state_dict', keys without model., _orig_mod.\n" in printed
    assert "unused: criterion.weight, loss_fn.margin\n" in printed


def test_the_size_of_a_bare_file_can_be_given(tmp_path, capsys):
    model = Segmenter(head_layers=1, **{**SIZES, "image_size": (72, 128)}).eval()
    torch.save(model.state_dict(), tmp_path / "m.pth")
    target = tmp_path / "o.safetensors"
    assert main(["convert", str(tmp_path / "m.pth"), "-o", str(target), "--image-size", "72", "128"]) == 0
    assert "positions=9x16" in capsys.readouterr().out
    assert expedit.load(target).encoder.nominal == (9, 16)


NETWORKS = {
    "a ResNet, or a network around one": ("conv1.weight", "layer1.0.conv1.weight", "fc.weight"),
    "a plain ViT without a head": ("cls_token", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "head.weight"),
    "a plain ViT without a head for segmentation: a classifier": ("vit.encoder.layer.0.attention.output.dense.weight",),
    "a Swin without a Mask2Former": ("layers.0.blocks.0.attn.relative_position_bias_table", "patch_embed.proj.weight"),
    "a Mask2Former with a ResNet backbone": (
        "backbone.res2.0.conv1.weight",
        "sem_seg_head.predictor.class_embed.weight",
    ),
    "a Mask2Former of transformers: give the folder": ("model.pixel_level_module.encoder.a", "class_predictor.weight"),
    "a Mask2Former of mmdetection": ("backbone.stages.0.a", "panoptic_head.query_feat.weight"),
    "a MaskFormer": ("sem_seg_head.predictor.query_embed.weight", "backbone.patch_embed.proj.weight"),
    "a network of mmsegmentation, but not a Segmenter": (
        "backbone.patch_embed.projection.weight",
        "backbone.cls_token",
        "decode_head.conv_seg.weight",
        "decode_head.psp_modules.0.1.conv.weight",
    ),
    "a detector of detectron2": ("backbone.bottom_up.stem.conv1.weight", "roi_heads.box_head.fc1.weight"),
    "a text model": ("bert.embeddings.word_embeddings.weight", "bert.encoder.layer.0.attention.self.query.weight"),
    "a text model ": ("model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight"),
    "a CLIP": ("visual.conv1.weight", "token_embedding.weight", "text_projection"),
    r"a Segment Anything \(SAM\)": ("image_encoder.blocks.0.attn.qkv.weight", "mask_decoder.iou_token.weight"),
    "a DETR": ("transformer.decoder.norm.weight", "class_embed.weight", "bbox_embed.layers.0.weight"),
    r"a U-Net \(diffusion\)": ("down_blocks.0.resnets.0.conv1.weight", "conv_in.weight"),
    "a YOLO detector": ("model.0.conv.weight", "model.1.m.0.cv1.conv.weight"),
    r"adapters \(LoRA\)": ("base_model.model.encoder.layer.0.lora_A.weight",),
    "a classifier made of convolutions": ("features.0.weight", "classifier.6.weight"),
    r"of no network we know, with tensors such as (module\.)?bias, ": ("scale", "bias"),
}


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_other_networks_are_called_by_name(tmp_path, kind, prefix):
    torch.save(
        {"state_dict": dict.fromkeys((prefix + name for name in NETWORKS[kind]), torch.zeros(2, 2))}, tmp_path / "m"
    )
    with pytest.raises(
        ValueError, match=rf"m: expected a checkpoint, got [^\n]*{kind.strip()}[^\n]*; expected a Segmenter"
    ):
        expedit.load(tmp_path / "m")


@pytest.mark.parametrize(
    ("write", "place"),
    [
        *(("pth", place) for place in PLACES if place != "epoch beside"),
        ("pickle", "model"),
        ("pickle", "data parallel"),
    ],
)
def test_an_official_mask2former_of_any_container(shared, tmp_path, monkeypatch, place, write):
    """Its trainer writes .pth, its zoo .pkl; the names are the same."""
    folder = shared / "goldens" / "mask2former"
    state = weights_of(folder, "t")
    architecture = architecture_of(metadata_of(folder / "mask2former_t_baseline_128x192.safetensors")["config"])
    monkeypatch.setattr(mask2former, "PUBLISHED", {"small": architecture})
    monkeypatch.setattr(mask2former, "matching", lambda *sizes: "small")
    card = card_of(architecture)
    monkeypatch.setattr(mask2former, "published_card", lambda name: card)
    wrap, path, _ = PLACES[place]
    target = tmp_path / "model_final"
    if write == "pth":
        torch.save({**wrap(state), "iteration": 9}, target)
    else:
        arrays = wrap({name: value.numpy() for name, value in state.items()})
        target.write_bytes(pickle.dumps({"model": arrays["model"], "matching_heuristics": True}))
    loaded = read(target, Options())
    assert loaded.path == path
    want = mask2former.Mask2Former.from_detectron2(state, architecture, card).state_dict()
    assert all(torch.equal(value, want[name]) for name, value in loaded.model.state_dict().items())


def test_a_file_of_transformers_says_that_its_folder_is_read(tmp_path):
    torch.save({"embeddings.cls_token": torch.zeros(2)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="of no network we know"):
        expedit.load(tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="it lies in a folder of transformers: give the folder"):
        expedit.load(tmp_path / "pytorch_model.bin")
