"""Laws that hold for every method on every backbone: written once, run over all pairs."""

import copy

import pytest
import torch
from transformers import SwinBackbone, SwinConfig

from expedit import (
    ACT,
    ALGM,
    ATS,
    MPM,
    AiluRus,
    CubistMerge,
    EViT,
    EvoViT,
    Expedit,
    MixedScale,
    PiToMe,
    Pool,
    Regions,
    Shrink,
    ToMe,
    ToMe2D,
    accelerate,
)
from expedit.core import Grid, Plan, mlp
from expedit.methods.ailurus import Anchors
from expedit.methods.algm import Windows
from expedit.methods.ats import Sampled
from expedit.methods.cubistmerge import RowsThenColumns
from expedit.methods.evit import Attentive
from expedit.methods.evovit import SlowFast
from expedit.methods.expedit import Clusters
from expedit.methods.mixedscale import Quadtree
from expedit.methods.mpm import Pairs
from expedit.methods.pitome import Energetic
from expedit.methods.pool import Averages
from expedit.methods.regions import Merging
from expedit.methods.shrink import Shrunk
from expedit.methods.tome import Merged
from expedit.methods.tome2d import Strided
from expedit.models import Segmenter, ViT
from expedit.surgery import find_backbone

SIZES = {"image_size": (48, 64), "patch": 8, "width": 32, "depth": 5, "heads": 4}  # 6 x 8 tokens


class SwinMap(torch.nn.Module):
    """The library's Swin inside a module of somebody else's, which takes the map of the stage that is cut."""

    def __init__(self):
        super().__init__()
        sizes = {"embed_dim": 16, "depths": [4, 1, 1, 1], "num_heads": [1, 2, 4, 8], "window_size": 6}
        config = SwinConfig(**sizes, drop_path_rate=0.0, out_features=["stage1"])
        self.swin = SwinBackbone(config)

    def forward(self, image):
        return self.swin(image).feature_maps[0]


BACKBONES = {
    "vit": lambda: ViT(**SIZES),
    "segmenter": lambda: Segmenter(classes=5, head_layers=1, **SIZES),
    "segmenter-linear": lambda: Segmenter(classes=5, head_layers=None, **SIZES),
    "swin": SwinMap,
}

METHODS = {
    "expedit": Expedit(alpha=2, grid=(4, 5), top_k=6),
    "expedit-tiled": Expedit(alpha=2, grid=(5, 7), neighbourhood=3, top_k=6),
    "expedit-features": Expedit(alpha=1, grid=0.6, top_k=-1, restore="features"),
    "expedit-published": Expedit(
        alpha=2, grid=(4, 5), temperature=0.02, top_k=6, normalize="l2", official_weights=True
    ),
    "evit": EViT(keep_rate=0.6, layers=(1, 2, 4)),
    "evit-read-3": EViT(keep_rate=0.6, layers=(1, 3), fuse=False, top_k=3),
    "tome": ToMe(ratio=0.3),
    "act": ACT(query_hashes=6),
    "pool": Pool(alpha=2, grid=(4, 5)),
    "pitome": PiToMe(keep=0.8, alpha=3),
    "tome2d": ToMe2D(ratio=0.4, branches="both"),
    "ailurus": AiluRus(alpha=2, keep=0.5),
    "algm": ALGM(windows=0.5, ratio=0.2, layers=(1, 3)),
    "mpm": MPM(ratio=0.3, layers=(1, 3)),
    "expedit-delta": Expedit(alpha=1, grid=0.6, top_k=4, restore="delta", size_bias=True),
    "pool-delta": Pool(alpha=2, grid=(4, 5), restore="delta"),
    "regions": Regions(keep=0.6),
    "regions-logits": Regions(alpha=2, keep=0.3, restore="logits"),
    "shrink": Shrink(0.6),
    "shrink-regions": Shrink(0.8) + Regions(alpha=1, keep=0.7),
    "cubistmerge": CubistMerge(alpha=2, grid=(4, 5)),
    "ats": ATS(keep_rate=0.6, layers=(1, 3)),
    "evovit": EvoViT(keep_rate=0.5, layers=(1, 3)),
    "mixedscale": MixedScale(keep=0.5),
}
IN_WINDOWS = ("expedit", "expedit-features", "pool", "pool-delta", "cubistmerge")
"""What fits windows of 6 x 6: methods that keep the lattice."""

FULL_BUDGET = {
    "expedit": Expedit(alpha=2, grid=(6, 8)),
    "evit": EViT(keep_rate=1.0, layers=(1, 2)),
    "tome": ToMe(ratio=0.0),
    "pool": Pool(alpha=2, grid=(6, 8)),
    "pitome": PiToMe(keep=1.0),
    "tome2d": ToMe2D(ratio=0.0),
    "ailurus": AiluRus(keep=1.0),
    "algm": ALGM(windows=0, ratio=0, layers=(1, 3)),
    "mpm": MPM(ratio=0, layers=(1, 3)),
    "regions": Regions(alpha=1, keep=1.0),
    "shrink": Shrink(1.0),
    "cubistmerge": CubistMerge(alpha=2, grid=1.0),
    "ats": ATS(keep_rate=1.0, layers=(1, 2)),
    "evovit": EvoViT(keep_rate=1.0, layers=(1, 2)),
    "mixedscale": MixedScale(keep=1.0),
}
STATIC = [name for name, method in METHODS.items() if method.static]
ON_SEGMENTER = ("pitome", "tome2d", "ailurus", "algm", "mpm", "cubistmerge", "ats", "evovit", "mixedscale")
"""One network is enough for methods that add no kind of cut."""

PAIRS = [
    (backbone, name)
    for backbone in BACKBONES
    for name in METHODS
    if name in {"swin": IN_WINDOWS, "segmenter": METHODS}.get(backbone, METHODS.keys() - ON_SEGMENTER)
]
COMPILED = [
    *(("vit", name) for name in ("expedit", "evit", "tome", "pool", "regions", "shrink-regions", "algm")),
    ("segmenter", "expedit"),
]
"""In every run: one of each kind of cut, and the head once. All others are compiled in the slow runs."""

COMPILED_SLOWLY = [pair for pair in PAIRS if pair[1] in STATIC and pair not in COMPILED]

every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
every_pair = pytest.mark.parametrize(("backbone", "name"), PAIRS)
every_static_pair = pytest.mark.parametrize(("backbone", "name"), [pair for pair in PAIRS if pair[1] in STATIC])


def build(backbone):
    torch.manual_seed(3)
    model = BACKBONES[backbone]().eval()
    for parameter in model.parameters():  # far from the tame start of training: methods must see structure
        parameter.data += 0.15 * torch.randn_like(parameter)
    return model


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("backbone", ["vit", "segmenter"])
@torch.inference_mode()
def test_no_cuts_is_the_untouched_model(backbone):
    """The engine with the empty plan against blocks called one after the other."""
    model = build(backbone)
    vit = model if backbone == "vit" else model.encoder
    x = vit.embed(images(2, 3, 48, 64)).x
    for block in vit.blocks:
        x = block(x)
    want = vit.norm(x)
    assert torch.allclose(vit.encode(images(2, 3, 48, 64))[0].x, want, atol=1e-5)


@pytest.mark.parametrize("backbone", ["vit", "segmenter", "segmenter-linear"])
@pytest.mark.parametrize("method", FULL_BUDGET.values(), ids=FULL_BUDGET)
@torch.inference_mode()
def test_full_budget_is_the_untouched_model(backbone, method):
    model, image = build(backbone), images(2, 3, 48, 64)
    assert torch.allclose(accelerate(model, method)(image), model(image), atol=2e-5)


@every_pair
@torch.inference_mode()
def test_a_method_changes_the_result(backbone, name):
    """Or every other law here would hold for an engine that forgets the cuts."""
    model, image = build(backbone), images(1, 3, 48, 64)
    assert (accelerate(model, METHODS[name])(image) - model(image)).abs().max() > 1e-3


@every_pair
@torch.inference_mode()
def test_batch_mates_and_their_order_do_not_matter(backbone, name):
    fast, batch = accelerate(build(backbone), METHODS[name]), images(4, 3, 48, 64)
    together = fast(batch)
    assert torch.allclose(together, torch.cat([fast(image[None]) for image in batch]), atol=1e-4)
    order = torch.tensor([2, 0, 3, 1])
    assert torch.allclose(fast(batch[order]), together[order], atol=1e-4)


def token_counts(model, image):
    """Length of the sequences that enter every branch of the backbone."""
    path, adapter = find_backbone(model)
    counts = []
    hooks = [
        branch.register_forward_pre_hook(lambda _, inputs: counts.append(inputs[0].shape[1]))
        for branch in adapter.branches(model.get_submodule(path))
    ]
    model(image)
    for hook in hooks:
        hook.remove()
    return counts


@every_static_pair
@torch.inference_mode()
def test_token_counts_come_from_shapes_and_settings(backbone, name):
    model = build(backbone)
    fast = accelerate(model, METHODS[name])
    counts = token_counts(fast, images(2, 3, 48, 64))
    assert counts == token_counts(fast, torch.zeros(2, 3, 48, 64))
    assert counts == token_counts(fast, 50 * torch.rand(2, 3, 48, 64))
    assert sum(counts) < sum(token_counts(model, images(2, 3, 48, 64)))


def test_act_declares_that_it_is_not_static():
    assert not ACT().static
    with pytest.raises(ValueError, match="run it without compile"):
        accelerate(build("vit"), ACT(), compile=True)
    assert all(method.static for method in METHODS.values() if not isinstance(method, ACT))


@every_pair
@torch.inference_mode()
def test_deterministic(backbone, name):
    model, image = build(backbone), images(2, 3, 48, 64)
    assert torch.equal(accelerate(model, METHODS[name])(image), accelerate(model, METHODS[name])(image))


@every_pair
@pytest.mark.parametrize("size", [(48, 64), (41, 67), (96, 40), (33, 129)])
@torch.inference_mode()
def test_any_image_size(backbone, name, size):
    fast, image = accelerate(build(backbone), METHODS[name]), images(1, 3, *size)
    out, scale = fast(image), {"segmenter": 1, "segmenter-linear": 1, "vit": 8, "swin": 4}[backbone]
    assert out.shape[2:] == (-(-size[0] // scale), -(-size[1] // scale))
    assert out.isfinite().all()


@every_pair
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.inference_mode()
def test_half_precision_is_finite_and_close(backbone, name, dtype):
    """Discrete choices (keep, merge, hash) may fall differently for single tokens, so the typical error counts."""
    model, image = build(backbone), images(4, 3, 48, 64)
    want = accelerate(model, METHODS[name])(image)
    got = accelerate(copy.deepcopy(model).to(dtype), METHODS[name])(image.to(dtype))
    assert got.dtype == dtype
    assert got.isfinite().all()
    assert ((got.float() - want).abs().median() / want.abs().median()) < 0.1


REDUCERS = {
    "expedit": Clusters(Expedit(grid=(4, 5), top_k=6)),
    "evit": Attentive(EViT(keep_rate=0.5)),
    "tome": Merged(0.3, 1),
    "pool": Averages((4, 5)),
    "pitome": Energetic(PiToMe(keep=0.7), 0.5),
    "tome2d": Strided(0.6, 2),
    "ailurus": Anchors(AiluRus(keep=0.4)),
    "algm": Windows(0.5, False),
    "mpm": Pairs(0.3, False),
    "regions": Merging(Regions(keep=0.5)),
    "cubistmerge": RowsThenColumns((4, 5)),
    "ats": Sampled(0.5),
    "evovit": SlowFast(0.5),
    "mixedscale": Quadtree(MixedScale(keep=0.5)),
}


@pytest.mark.parametrize("reducer", REDUCERS.values(), ids=REDUCERS)
def test_reducers_decide_in_fp32(reducer):
    """The same half-precision tokens, once as they are and once widened: the same choices and weights."""
    x = (3 * images(2, 48, 32)).bfloat16()
    score = images(2, 48).softmax(1)
    others = {"cls_attention": score, "significance": score, "coarse_patches": images(2, 10, 32).bfloat16()}
    guide = others.get(reducer.guide, x)
    wide_guide = guide.float()
    small, token_map = reducer(x, guide, Grid(6, 8))
    wide, wide_map = reducer(x.float(), wide_guide, Grid(6, 8))
    assert small.dtype == torch.bfloat16
    assert torch.equal(token_map.index, wide_map.index)
    if token_map.weight is not None:
        assert torch.equal(token_map.weight, wide_map.weight)
    assert torch.allclose(small.float(), wide, atol=0.05, rtol=0.02)


@pytest.mark.parametrize(
    ("backbone", "name"),
    [*COMPILED, *(pytest.param(*pair, marks=pytest.mark.slow) for pair in COMPILED_SLOWLY)],
)
def test_static_methods_compile_to_one_graph(backbone, name):
    torch._dynamo.reset()
    fast = accelerate(build(backbone), METHODS[name])
    image = images(2, 3, 48, 64)
    with torch.inference_mode():
        want = fast(image)
        got = torch.compile(fast, fullgraph=True, backend="aot_eager")(image)
    assert torch.allclose(got, want, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", STATIC)
def test_the_default_compiler_computes_the_same(name):
    """Code is really generated here, so that aliasing it gets wrong shows; about half a minute each."""
    torch._dynamo.reset()
    fast, image = accelerate(build("segmenter"), METHODS[name]), images(2, 3, 48, 64)
    with torch.inference_mode():
        assert torch.allclose(torch.compile(fast, fullgraph=True)(image), fast(image), atol=1e-4)


@every_pair
def test_the_original_stays_and_parameters_are_shared(backbone, name):
    model, image = build(backbone), images(1, 3, 48, 64)
    keys = list(model.state_dict())
    with torch.inference_mode():
        before = model(image)
        fast = accelerate(model, METHODS[name])
        assert torch.equal(model(image), before)
    assert type(fast) is type(model)
    assert fast is not model
    assert list(model.state_dict()) == list(fast.state_dict()) == keys
    shared = zip(model.parameters(), fast.parameters(), strict=True)
    assert all(mine is theirs for mine, theirs in shared)
    path, adapter = find_backbone(model)
    assert adapter.plan(model.get_submodule(path)) == Plan()


@every_method
@torch.inference_mode()
def test_taps_inside_a_span_are_full_size(method):
    vit, image = build("vit"), images(2, 3, 48, 64)
    dense = vit.feature_maps(image, [0, 2, 4])
    fast = accelerate(vit, method).feature_maps(image, [0, 2, 4])
    assert [m.shape for m in fast] == [m.shape for m in dense] == [(2, 32, 6, 8)] * 3
    first_cut = min([*accelerate(vit, method).plan.spans, 2 * 5])
    if first_cut > mlp(0) and not isinstance(method, (ToMe, ToMe2D, ACT, Shrink, Shrunk)):
        assert torch.equal(fast[0], dense[0])
    assert all(m.isfinite().all() for m in fast)
