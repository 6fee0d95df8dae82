"""The Swin adapter against the official hourglass Swin, and its own laws."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import expedit
from expedit.backbones.swin import Swin
from expedit.backbones.swin_blocks import shift_mask
from expedit.core import Grid, Plan, Span, attn
from expedit.models.detectron2 import official_name
from expedit.operators.windows import merge, partition
from golden_mask2former import OFFICIAL, method_of

transformers = pytest.importorskip("transformers")

LEVELS = ("res2", "res3", "res4", "res5")


def small_swin(embed=16, depths=(2, 2, 4, 2), heads=(1, 2, 4, 8), window=6, seed=0):
    torch.manual_seed(seed)
    config = transformers.SwinConfig(
        embed_dim=embed,
        depths=list(depths),
        num_heads=list(heads),
        window_size=window,
        drop_path_rate=0.0,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    model = transformers.SwinBackbone(config).eval()
    for name, parameter in model.named_parameters():
        if "bias_table" in name:
            torch.nn.init.normal_(parameter)
    return model


def config_of(path):
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["config"])


def golden_swin(shared, path):
    """The un-clustered network of a golden file, weights by official names."""
    config = config_of(path)
    tag = path.name.split("_")[1]
    state = {}
    for shard in sorted((shared / "goldens").glob(f"swin_{tag}_weights_*")):
        state |= load_file(shard)
    state = {f"backbone.{name.removeprefix('backbone.')}": value for name, value in state.items()}
    model = small_swin(config["embed"], config["depths"], config["heads"], config["window"])
    prefix = "model.pixel_level_module.encoder."
    loaded = {}
    for name in model.state_dict():
        if name.startswith("swin.layernorm."):
            loaded[name] = model.state_dict()[name]
            continue
        official, third = official_name(prefix + name)
        loaded[name] = state[official] if third is None else state[official].chunk(3)[third]
    model.load_state_dict(loaded)
    return model, config


@pytest.mark.parametrize(
    "name",
    [f"e16_{kind}_{size}" for kind in ("baseline", "loc5", "loc6") for size in ("192x192", "160x224")]
    + ["e32_baseline_136x200", "e32_loc6_136x200"],
)
def test_golden(shared, name):
    path = shared / "goldens" / f"swin_{name}.safetensors"
    golden = load_file(path)
    model, config = golden_swin(shared, path)
    if "cluster_window" in config:
        model = expedit.accelerate(model, method_of(config), **OFFICIAL)
        lattice, side = Grid(*config["clustered_map"]), config["cluster_window"]
        old = config["window"] // 2
        mask = shift_mask(lattice, Grid(side, side), Grid(old, old), golden["input.image"])
        torch.testing.assert_close(mask, golden["aux.clustered_attention_mask"])
    with torch.inference_mode():
        maps = model(golden["input.image"]).feature_maps
    for level, feature_map in zip(LEVELS, maps, strict=True):
        torch.testing.assert_close(feature_map, golden[f"output.{level}"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("option", ["official_shift_mask", "official_padding"])
def test_each_quirk_matters(shared, option):
    """Each option changes the result of a padded map with several windows, so the goldens check both."""
    golden = load_file(shared / "goldens" / "swin_e16_loc6_160x224.safetensors")
    model, config = golden_swin(shared, shared / "goldens" / "swin_e16_loc6_160x224.safetensors")
    fast = expedit.accelerate(model, method_of(config), **{**OFFICIAL, option: False})
    with torch.inference_mode():
        res4 = fast(golden["input.image"]).feature_maps[2]
    assert (res4 - golden["output.res4"]).abs().max() > 0.05


@pytest.mark.parametrize(
    "spec", ["expedit(alpha=6, grid=(4, 4), top_k=9)", "pool(alpha=5, grid=(4, 3))", "pool(alpha=0, grid=(3, 3))"]
)
@pytest.mark.parametrize("size", [(192, 192), (136, 200), (64, 96), (33, 47)])
def test_any_size_same_shapes_and_finite(spec, size):
    model = small_swin()
    fast = expedit.accelerate(model, spec)
    pixels = torch.randn(1, 3, *size)
    with torch.inference_mode():
        dense, reduced = model(pixels).feature_maps, fast(pixels).feature_maps
    assert [m.shape for m in dense] == [m.shape for m in reduced]
    assert all(m.isfinite().all() for m in reduced)
    assert type(fast) is type(model)


@pytest.mark.parametrize("options", [{}, OFFICIAL])
@pytest.mark.parametrize("method", ["pool", "expedit"])
def test_full_grid_is_the_untouched_network(method, options):
    model, pixels = small_swin(), torch.randn(2, 3, 192, 192)
    extra = {} if method == "pool" else {"top_k": 1}
    fast = expedit.accelerate(model, expedit.METHODS[method](alpha=4, grid=(6, 6), **extra), **options)
    with torch.inference_mode():
        for dense, reduced in zip(model(pixels).feature_maps, fast(pixels).feature_maps, strict=True):
            torch.testing.assert_close(dense, reduced, atol=1e-4, rtol=0)


def test_full_grid_is_the_untouched_network_where_windows_are_padded():
    """Without the official padding nothing beyond the map takes part."""
    model, pixels = small_swin(), torch.randn(1, 3, 136, 200)
    fast = expedit.accelerate(model, "pool(alpha=4, grid=(6, 6))")
    with torch.inference_mode():
        for dense, reduced in zip(model(pixels).feature_maps, fast(pixels).feature_maps, strict=True):
            torch.testing.assert_close(dense, reduced, atol=1e-4, rtol=0)


def test_a_reducer_can_be_exchanged():
    fast = expedit.accelerate(small_swin(), "expedit(alpha=5, grid=(4, 4), top_k=6)")
    with pytest.raises(ValueError, match="accelerated already"):
        expedit.accelerate(fast, "pool(alpha=5, grid=(4, 4))")
    span = Span(Swin().plan(fast.swin).spans[10].reducer, 10, 16)
    Swin().exchange(fast.swin, Plan({10: span}))
    assert Swin().plan(fast.swin).spans == {10: span}
    assert len(Swin().branches(fast.swin)) == 10


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("evit(layers=(5,))", "cls_attention"),
        ("tome(ratio=0.3)", "dense ToMe"),
        ("act()", "ACT"),
        ("pool(alpha=5, grid=(28, 28))", "on 6 x 6 tokens"),
        ("expedit(alpha=10, grid=(4, 4), top_k=4)", "alpha"),
    ],
)
def test_what_does_not_fit_is_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        expedit.accelerate(small_swin(), spec)


def test_spans_that_end_elsewhere_and_unknown_options_are_refused():
    model = small_swin()
    net = Swin().anatomy(model.swin)
    reducer = expedit.Pool(alpha=5, grid=(4, 4)).cuts(net)[0].reducer
    for start, stop, message in [(attn(5), attn(9), "ends with its stage"), (attn(5) + 1, attn(8), "inside block 5")]:
        with pytest.raises(ValueError, match=message):
            Swin().install(model, "swin", Plan.of([Span(reducer, start, stop)], net))
    two = [Span(reducer, attn(0), attn(2)), Span(reducer, attn(5), attn(8))]
    with pytest.raises(ValueError, match="one span, got 2"):
        Swin().install(model, "swin", Plan.of(two, net))
    with pytest.raises(ValueError, match="unknown option colour"):
        expedit.accelerate(model, "pool(alpha=5, grid=(4, 4))", colour=1)


def test_a_reducer_that_leaves_the_lattice_is_refused():
    model = small_swin()
    net = Swin().anatomy(model.swin)

    class Halves:
        guide = "tokens"

        def __call__(self, x, guide, grid):
            small, token_map = expedit.Pool(alpha=0, grid=(3, 3)).cuts(net)[0].reducer(x, guide, grid)
            return small, replace(token_map, grid=None)

    with pytest.raises(ValueError, match="takes tokens off the lattice"):
        Swin().install(model, "swin", Plan.of([Span(Halves(), attn(5), attn(8))], net))


def test_windows_round_trip():
    tokens, grid, window = torch.randn(2, 7 * 5, 3), Grid(7, 5), Grid(4, 3)
    windows = partition(tokens, grid, window)
    assert windows.shape == (2 * 4, 12, 3)
    torch.testing.assert_close(merge(windows, grid, window), tokens)
    lattice = tokens.view(2, 7, 5, 3)
    torch.testing.assert_close(windows[0].view(4, 3, 3), lattice[0, :4, :3])
    assert (windows[3].view(4, 3, 3)[3] == 0).all()
