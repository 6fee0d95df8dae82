"""What README, docs and recipes show is run: Python blocks as scripts, commands through their parsers."""

import doctest
import io
import re
import shlex
import sys
import textwrap
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import pytest
import torch

import expedit
from data_files import picture, write
from expedit import METHODS, cli
from expedit.models import Segmenter
from expedit.spec import parse

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")])
RECIPES = sorted([*ROOT.glob("src/expedit/recipes/*.yaml"), *ROOT.glob("benchmarks/*.yaml")])
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text() for path in [*PAGES, *RECIPES]}

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
FILE = re.compile(r"[\w.-]+(?:/[\w.-]+)+\.(?:py|md|yaml|j2)")
SPEC = re.compile(rf"\b(?:{'|'.join(METHODS)})\([^()]*(?:\([^()]*\)[^()]*)*\)")

VARIANT = """\
dataset_kwargs: {dataset: ade20k, normalization: vit}
inference_kwargs: {im_size: 32, window_size: 32, window_stride: 32}
net_kwargs: {n_heads: 2, image_size: !!python/tuple [32, 32]}
"""


def blocks(text, *languages):
    return [textwrap.dedent(code) for _, language, code in FENCE.findall(text) if language in languages]


def commands(text):
    """Every command line in a block or within a sentence, as words; ends of lines that go on are joined."""
    text = re.sub(r"\\\n#?\s*", "", text)
    lines = [line for block in blocks(text, "sh") for line in block.splitlines()]
    lines += re.findall(r"^(?:    |# Command +|#  +)(\S.*)$", FENCE.sub("", text), re.MULTILINE)
    lines += INLINE.findall(FENCE.sub("", text).replace("\n", " "))
    for line in lines:
        if re.match(r"(expedit|python|make|torchrun|pytest)\s", line):
            yield shlex.split(line, comments=True)


COMMANDS = [(page, words) for page, text in TEXTS.items() for words in commands(text)]


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """A working folder with small files under the names that the pages use."""
    label = np.zeros((6, 8), dtype=np.uint8)
    pair = {"images/x.jpg": picture(), "labels/x.png": label}
    write(tmp_path, {"photo.jpg": picture(48, 64), "names.txt": "road\nsky\n", "truth/x.png": label})
    write(
        tmp_path / "ADEChallengeData2016", {"images/validation/x.jpg": picture(), "annotations/validation/x.png": label}
    )
    write(tmp_path / "camvid", {"val/x.png": picture(), "valannot/x.png": label})
    write(tmp_path / "mydata", {**pair, "classes.txt": "road\nsky\n"})
    write(tmp_path / "photos", {"x.jpg": picture()})
    small = Segmenter(classes=150, image_size=(32, 32), width=8, depth=12, heads=2, head_layers=1, head_heads=1)
    write(tmp_path / "seg_large_mask_640", {"variant.yml": VARIANT})
    torch.save({"model": small.state_dict()}, tmp_path / "seg_large_mask_640/checkpoint.pth")
    monkeypatch.chdir(tmp_path)


HUB = ("depth-anything/Depth-Anything-V2-Small-hf", "facebook/dinov2-small")
"""Names that a page with networks of transformers has."""

SIZES = {"hidden_size": 16, "num_hidden_layers": 12, "num_attention_heads": 2}


def save_hub():
    """Small networks of transformers in folders that are called like those of the hub."""
    hf = pytest.importorskip("transformers")
    sizes = {**SIZES, "mlp_ratio": 2, "image_size": 56, "patch_size": 14}
    taps = {"out_indices": [3, 6, 9, 12], "apply_layernorm": True}
    necks = {"neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8, "head_hidden_size": 4, "reassemble_hidden_size": 16}
    backbone = hf.Dinov2Config(**sizes, **taps, reshape_hidden_states=False)
    depth = hf.DepthAnythingForDepthEstimation(hf.DepthAnythingConfig(backbone_config=backbone, patch_size=14, **necks))
    cropped = {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}}
    resize = {"size": {"height": 70, "width": 70}, "keep_aspect_ratio": True, "ensure_multiple_of": 14}
    eomt = hf.EomtForUniversalSegmentation(
        hf.EomtConfig(**{**sizes, "image_size": 64, "patch_size": 8}, num_queries=5, num_blocks=2, num_labels=3)
    )
    eomt.attn_mask_probs.zero_()
    whole = hf.EomtImageProcessor(size={"shortest_edge": 64, "longest_edge": 64}, do_pad=True)
    backbone = hf.Dinov2Config(**sizes, **taps, reshape_hidden_states=True)
    upernet = hf.UperNetConfig(backbone_config=backbone, hidden_size=8, num_labels=3, auxiliary_in_channels=16)
    square = {"longest_edge": 160}
    sam = hf.SamImageProcessor(size=square, pad_size={"height": 160, "width": 160})
    for name, *parts in (
        ("depth-anything/Depth-Anything-V2-Small-hf", depth, hf.DPTImageProcessor(**resize)),
        ("tue-mps/coco_panoptic_eomt_large_640", eomt, whole),
        ("facebook/dinov2-small", hf.Dinov2Model(hf.Dinov2Config(**sizes)), hf.BitImageProcessor(**cropped)),
        ("upernet-dinov2", hf.UperNetForSemanticSegmentation(upernet)),
        ("facebook/sam-vit-base", small_sam(hf), hf.SamProcessor(sam)),
    ):
        for part in parts:
            part.save_pretrained(name)


def small_sam(hf):
    vision = {**SIZES, "mlp_dim": 32, "image_size": 160, "patch_size": 8, "window_size": 7, "output_channels": 16}
    prompts = {"hidden_size": 16, "image_size": 160, "patch_size": 8, "mask_input_channels": 8}
    decoder = {"hidden_size": 16, "mlp_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return hf.SamModel(
        hf.SamConfig(
            vision_config=hf.SamVisionConfig(**vision, global_attn_indexes=[2, 5, 8, 11], num_pos_feats=8).to_dict(),
            prompt_encoder_config=hf.SamPromptEncoderConfig(**prompts).to_dict(),
            mask_decoder_config=hf.SamMaskDecoderConfig(**decoder, iou_head_hidden_dim=16).to_dict(),
        )
    )


SLOW = ("docs/howto/export.md",)
"""Pages whose programs take half a minute to write."""


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.slow) if page in SLOW else page
        for page, text in TEXTS.items()
        if blocks(text, "python")
    ],
)
def test_python_blocks_run(page, stand_ins):
    """Those of a page one after the other, as its reader types them."""
    if any(f'"{name}"' in TEXTS[page] for name in HUB):
        save_hub()
    names = {"__name__": "page"}
    for code in blocks(TEXTS[page], "python"):
        exec(compile(code, page, "exec"), names)


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=[f"{page}: {' '.join(words)}" for page, words in COMMANDS])
def test_commands_exist(page, words, monkeypatch):
    """Options and choices must be right; a sentence may leave out what a verb needs besides."""
    if "expedit" in words:
        arguments, seen, told = words[words.index("expedit") + 1 :], [], io.StringIO()
        monkeypatch.setattr(cli, "_run", lambda args: seen.append(args) or 0)
        try:
            with redirect_stderr(told):
                cli.main(arguments)
        except SystemExit:
            assert "the following arguments are required" in told.getvalue() or "--help" in arguments, told.getvalue()
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    else:
        files = words[1:] if words[0] == "pytest" else words
        assert all((ROOT / word).exists() for word in files if word.endswith(".py") or word.startswith("tests/"))


@pytest.mark.parametrize("page", TEXTS)
def test_specs_are_understood(page):
    """Families of settings have a place for a number."""
    specs = [spec for spec in SPEC.findall(TEXTS[page]) if "..." not in spec]
    for spec in specs:
        parse(re.sub(r"\{\w+\}", "0.5", spec))


THINGS = [*(getattr(expedit, name) for name in expedit.__all__ if name != "METHODS"), *METHODS.values(), parse]


@pytest.mark.parametrize("thing", dict.fromkeys(THINGS), ids=lambda thing: thing.__name__)
def test_public_names_have_an_example_that_holds(thing):
    module = sys.modules[thing.__module__]
    [test] = doctest.DocTestFinder(recurse=False).find(thing, thing.__name__, module)
    assert test.examples
    told = []
    doctest.DocTestRunner().run(test, out=told.append)
    assert not told, "".join(told)


@pytest.mark.parametrize("page", TEXTS)
def test_links_and_files_lead_somewhere(page):
    folder, text = (ROOT / page).parent, FENCE.sub("", TEXTS[page])
    for target in LINK.findall(text):
        path, _, anchor = target.partition("#")
        if not path.startswith(("https:", "http:")):
            assert (folder / path).exists(), target
            assert not anchor or anchor in anchors(folder / path if path else ROOT / page), target
    for name in {name for code in INLINE.findall(text) for name in FILE.findall(code)}:
        assert any((place / name).exists() for place in (ROOT, ROOT / "src/expedit")), name


def anchors(page):
    """How headings are addressed: lower case, hyphens for spaces, no punctuation."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
