"""Laws over every family of transformers, on tiny random networks (tests/families.py)."""

import copy
import io
import threading
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from expedit import accelerate
from expedit.core import LOGITS, Plan, Span, TokenMap, attention, attn, mlp, to_map, to_tokens
from expedit.operators.lattice import identity
from expedit.surgery import find_backbone, share
from families import NETWORKS, inputs, network, tensors

OTHERS = ("maskformer", "oneformer", "upernet-swin")
"""Driven by the adapter of Swin, whose own tests hold its laws."""

FAMILIES = [name for name in NETWORKS if name not in OTHERS]
ON_A_LATTICE = ("beit", "zoedepth", "sam", "sam-hq", "sam2-vision", "sam3-vision")
PLAIN = [name for name in FAMILIES if name not in ON_A_LATTICE]

every_family = pytest.mark.parametrize("name", FAMILIES)
every_plain_family = pytest.mark.parametrize("name", PLAIN)


def alpha(name, block=1):
    """The first block of SAM 2 that keeps its lattice is that after the start of its third stage."""
    return 4 if name == "sam2-vision" else block


def cells(name, share=0.7):
    """About half of the tokens that are reduced."""
    h, w = (16, 16) if name == "sam2-vision" else NETWORKS[name].grid
    return max(round(share * h), 2), max(round(share * w), 2)


def expedit_of(name, **settings):
    top_k = settings.pop("top_k", 4)
    more = "".join(f", {key}={value!r}" for key, value in settings.items())
    return f"expedit(alpha={alpha(name)}, grid={cells(name)}, normalize='l1', top_k={top_k}{more})"


@torch.inference_mode()
def run(model, name, **settings):
    return tensors(model(**inputs(name, **settings)))


def with_plan(model, plan, **options):
    twin = share(model)
    path, adapter = find_backbone(twin)
    adapter.install(twin, path, plan, **options)
    return twin


def farthest(got, want):
    """Largest difference of any output, relative to the largest value of that output."""
    assert {key: value.shape for key, value in got.items()} == {key: value.shape for key, value in want.items()}
    return max(float((got[key] - value).abs().max() / value.abs().max().clamp_min(1e-9)) for key, value in want.items())


@every_family
def test_no_cuts_is_the_untouched_network(name):
    """To the last bit, and the network that was given stays as it was."""
    model = network(name)
    want, keys = run(model, name), list(model.state_dict())
    twin = with_plan(model, Plan())
    assert type(twin) is type(model)
    assert sorted(twin.state_dict()) == sorted(keys)
    assert all(mine is theirs for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True))
    assert farthest(run(twin, name), want) == 0
    assert farthest(run(model, name), want) == 0
    assert list(model.state_dict()) == keys
    twin.load_state_dict(model.state_dict())


@dataclass(frozen=True)
class Shuffled:
    """Reducer: all tokens in another order, another one for every image."""

    guide = "tokens"

    def __call__(self, x, guide, grid):
        b, n, _ = x.shape
        order = torch.stack([torch.randperm(n, generator=torch.Generator().manual_seed(7 + i)) for i in range(b)])
        back = order.argsort(1)
        return x.gather(1, order[:, :, None].expand_as(x)), TokenMap(back[:, :, None], None, n, None)


SHUFFLES = {
    "one span": Plan({attn(1): Span(Shuffled(), attn(1), LOGITS)}),
    "inside the other": Plan({mlp(0): Span(Shuffled(), mlp(0), LOGITS), attn(1): Span(Shuffled(), attn(1), attn(3))}),
    "difference": Plan({attn(1): Span(Shuffled(), attn(1), attn(4), delta=True)}),
    "around every branch": Plan(around={step: Shuffled() for step in range(8)}),
}


@every_plain_family
@pytest.mark.parametrize("plan", SHUFFLES.values(), ids=SHUFFLES)
def test_the_order_of_tokens_does_not_matter(name, plan):
    """Prefix, companions, taps, queries that join and the way back, all at once.

    In float64: of float32 rounding alone some outputs of CLIPSeg move by 1e-6. Libraries keep rotary tables and norms
    in float32 (DINOv3, Sapiens2), so that up to 1e-7 remains.
    """
    model, given = network(name).double(), inputs(name, batch=2)
    given = {key: value.double() if value.is_floating_point() else value for key, value in given.items()}
    with torch.inference_mode():
        got, want = tensors(with_plan(model, plan)(**given)), tensors(model(**given))
    assert farthest(got, want) < 1e-6


@every_plain_family
def test_our_queries_keys_and_values_are_the_library_s(name):
    model = network(name)
    plan = Plan(attend={attn(block): lambda *qkv: attention(*qkv) for block in range(4)})
    assert farthest(run(with_plan(model, plan), name), run(model, name)) < 1e-6


@pytest.mark.parametrize("name", OTHERS)
def test_networks_around_a_swin(name):
    """The same laws for what has a Swin inside: full grid, shared parameters, another result, batch."""
    model = network(name)
    want, spec = run(model, name, batch=2), "expedit(alpha=2, grid={}, top_k=1)"
    full, fast = accelerate(model, spec.format((4, 4))), accelerate(model, spec.format((3, 3)))
    assert type(fast) is type(model)
    assert list(fast.state_dict()) == list(model.state_dict())
    assert all(mine is theirs for mine, theirs in zip(model.parameters(), fast.parameters(), strict=True))
    assert farthest(run(full, name, batch=2), want) < 1e-4
    got = run(fast, name, batch=2)
    assert farthest(got, want) > 1e-5
    assert all(value.isfinite().all() for value in got.values())
    half = accelerate(model, spec.format((3, 3))).to(torch.bfloat16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}


@every_family
def test_full_grid_is_the_untouched_network(name):
    model = network(name)
    full = accelerate(model, f"expedit(alpha={alpha(name)}, grid={cells(name, 1.0)}, top_k=1)")
    assert farthest(run(full, name), run(model, name)) < 2e-5


@every_family
def test_a_method_changes_the_result(name):
    model = network(name)
    assert farthest(run(accelerate(model, expedit_of(name)), name), run(model, name)) > 1e-6  # random heads hardly look


METHODS = {
    "expedit": expedit_of,
    "pool": lambda name: f"pool(alpha={alpha(name)}, grid={cells(name)})",
    "evit": lambda name: "evit(keep_rate=0.7, layers=(0, 1))",
    "tome": lambda name: "tome(ratio=0.3)",
    "act": lambda name: "act(query_hashes=12)",
    "pitome": lambda name: "pitome(keep=0.8)",
    "tome2d": lambda name: "tome2d(ratio=0.6)",
    "ailurus": lambda name: "ailurus(alpha=1, keep=0.5)",
    "algm": lambda name: "algm(layers=(1, 2))",
    "mpm": lambda name: "mpm(layers=(1, 2))",
    "regions": lambda name: "regions(keep=0.6)",
    "smaller": lambda name: "shrink(scale=0.8) + regions(alpha=1, keep=0.7)",
    "cubistmerge": lambda name: f"cubistmerge(alpha={alpha(name)}, grid={cells(name)})",
    "ats": lambda name: "ats(keep_rate=0.7, layers=(0, 1))",
    "evovit": lambda name: "evovit(layers=(0, 2))",
    "mixedscale": lambda name: "mixedscale(keep=0.6)",
}
ON_EVERY_FAMILY = ("expedit", "pool", "evit", "tome", "act", "regions", "smaller")
FEW_FAMILIES = ("dinov2", "dinov3", "eomt", "beit", "sam")
"""Plain, with rotary positions, with queries that join, and two that need the lattice: enough for other methods."""

KEEP_THE_LATTICE = ("expedit", "pool", "cubistmerge")
ONE_SIZE = ("eomt", "eomt-dinov3", "videomt", "vitpose")
READ_CLASS_ATTENTION = ("evit", "ats", "evovit")


@pytest.mark.parametrize(
    ("name", "method"),
    [(name, method) for name in FAMILIES for method in METHODS if method in ON_EVERY_FAMILY or name in FEW_FAMILIES],
)
def test_batch_mates_do_not_matter_or_the_method_is_refused(name, method):
    model, spec = network(name), METHODS[method](name)
    if (
        (method not in KEEP_THE_LATTICE and name in ON_A_LATTICE)
        or (method == "smaller" and name in ONE_SIZE)
        or (method in READ_CLASS_ATTENTION and (name == "videomt" or not NETWORKS[name].class_token))
    ):
        reason = r"lattice|place of a token|needs '(cls_attention|significance|keys|coarse_patches)'|smaller image"
        with pytest.raises(ValueError, match=reason):
            accelerate(model, spec)
        return
    fast = accelerate(model, spec)
    together = run(fast, name, batch=2)
    both = inputs(name, batch=2)
    alone = {key: value[1:] for key, value in both.items()}
    with torch.inference_mode():
        one = tensors(fast(**alone))
    assert all(value.isfinite().all() for value in together.values())
    for key, value in one.items():
        if together[key].shape[0] == 2:
            assert (together[key][1:] - value).abs().max() < 1e-4 * max(float(value.abs().max()), 1)


@dataclass(frozen=True)
class Looking:
    """Reducer: all tokens as they are; it keeps what it is shown."""

    shown: list = field(default_factory=list)
    guide = "coarse_patches"

    def __call__(self, x, guide, grid):
        self.shown.append((guide, grid))
        return x, identity(x, grid)


def embedded(model, image):
    """Tokens of the patches alone, before the first block."""
    out = model.embeddings(image)
    out = out[0] if isinstance(out, tuple) else out
    convolution = next(module for module in model.embeddings.modules() if isinstance(module, torch.nn.Conv2d))
    return out[:, -(image.shape[2] // convolution.stride[0]) * (image.shape[3] // convolution.stride[1]) :], convolution


@pytest.mark.parametrize(
    "name", ["dinov2", "dinov2-registers", "dinov3", "vit", "siglip", "pixio", "eomt", "eomt-dinov3"]
)
@torch.inference_mode()
def test_coarse_patches_are_those_of_smaller_images_at_mean_positions(name):
    model, reducer = network(name), Looking()
    [image] = inputs(name, batch=2).values()
    run(with_plan(model, Plan({0: Span(reducer, 0, attn(4))})), name, batch=2)
    [(shown, grid)] = reducer.shown
    blank, convolution = embedded(model, torch.zeros_like(image))
    positions = to_map(blank - convolution.bias, grid)
    patch, want = convolution.stride[0], []
    for side in (2, 4):
        h, w = (length // 4 * 4 // side for length in grid)
        pixels = image[:, :, : h * side * patch, : w * side * patch]
        mean = torch.nn.functional.interpolate(pixels, scale_factor=1 / side, mode="area")
        place = torch.nn.functional.interpolate(positions[:, :, : h * side, : w * side], size=(h, w), mode="area")
        want.append(to_tokens(convolution(mean) + place))
    assert torch.allclose(shown, torch.cat(want, 1), atol=1e-5)


@pytest.mark.parametrize("name", ["clip", "clipseg", "vitpose", "videomt", "beit", "sam", "sam2-vision", "sam3-vision"])
def test_networks_without_coarse_patches_say_so(name):
    with pytest.raises(ValueError, match="needs 'coarse_patches', which this network does not have"):
        accelerate(network(name), "mixedscale(keep=0.5)")


SIZES = {"dinov2": (112, 70), "dinov2-backbone": (70, 140), "dinov3": (80, 48), "depth-anything": (126, 84)}
SIZES |= {"upernet": (84, 112), "zoedepth": (160, 96), "pixio-backbone": (48, 72), "dinov3-backbone": (48, 96)}


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_any_image_size(name, size):
    model = network(name)
    for spec in ("expedit(alpha=1, grid=(3, 3), top_k=4)", "pool(alpha=2, grid=(3, 4))"):
        got, want = run(accelerate(model, spec), name, size=size), run(model, name, size=size)
        assert {key: value.shape for key, value in got.items()} == {key: value.shape for key, value in want.items()}
        assert all(value.isfinite().all() for value in got.values())


@every_family
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_finite_and_close(name, dtype):
    model = network(name)
    want = run(accelerate(model, expedit_of(name)), name)
    half = accelerate(model, expedit_of(name), dtype=dtype)
    given = {key: value.to(dtype) if value.is_floating_point() else value for key, value in inputs(name).items()}
    with torch.inference_mode():
        got = tensors(half(**given))
    for key, value in want.items():
        assert got[key].isfinite().all()
        assert (got[key].float() - value).abs().median() <= 0.2 * value.abs().median() + 1e-3


@pytest.mark.parametrize("name", ["dinov2", "dinov3", "beit", "sam", "eomt"])
def test_autocast_is_close(name):
    fast = accelerate(network(name), expedit_of(name))
    want = run(fast, name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = run(fast, name)
    for key, value in want.items():
        assert (got[key].float() - value).abs().median() <= 0.1 * value.abs().median() + 1e-3


ONE_GRAPH = ("dinov2", "eomt")
"""Compiled in every run; all others in the slow ones."""


@pytest.mark.parametrize(
    "name", [name if name in ONE_GRAPH else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
)
def test_one_graph(name):
    """EoMT too, whose dense form branches on a buffer.

    Soft clusters: five sharp updates make 7e-5 of one rounding of the pixels, and a graph rounds in another order.
    """
    torch._dynamo.reset()
    fast = accelerate(network(name), expedit_of(name, sharpness=1.0))
    given = inputs(name)
    with torch.no_grad():
        want = tensors(fast(**given))
        got = tensors(torch.compile(fast, fullgraph=True, dynamic=False, backend="aot_eager")(**given))
    assert farthest(got, want) < 1e-5


@pytest.mark.slow
def test_one_graph_of_regions_in_a_smaller_image():
    """With rotary positions, sizes and the way back to the larger lattice."""
    torch._dynamo.reset()
    fast, given = accelerate(network("dinov3"), METHODS["smaller"]("dinov3")), inputs("dinov3")
    with torch.no_grad():
        got = tensors(torch.compile(fast, fullgraph=True, dynamic=False, backend="aot_eager")(**given))
        assert farthest(got, tensors(fast(**given))) < 1e-5


def test_threads_with_images_of_different_size():
    fast = accelerate(network("dinov2-backbone"), "expedit(alpha=1, grid=(4, 5), top_k=4)")
    pictures = [torch.randn(1, 3, 98, 126), torch.randn(1, 3, 126, 98), torch.randn(2, 3, 70, 140)]
    with torch.inference_mode():
        want = [fast(picture).feature_maps for picture in pictures]
    wrong = []

    def work(place):
        with torch.inference_mode():
            for _ in range(10):
                for got, expected in zip(fast(pictures[place]).feature_maps, want[place], strict=True):
                    if not torch.equal(got, expected):
                        wrong.append(place)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_copies_and_pickles_run():
    model = network("dinov2")
    fast = accelerate(model, expedit_of("dinov2"))
    want = run(fast, "dinov2")
    assert farthest(run(copy.deepcopy(fast), "dinov2"), want) == 0
    file = io.BytesIO()
    torch.save(fast, file)
    file.seek(0)
    assert farthest(run(torch.load(file, weights_only=False), "dinov2"), want) == 0


@pytest.mark.parametrize("name", ["dinov2", "dinov3", "vit", "siglip", "dinov2-backbone", "depth-anything"])
@pytest.mark.parametrize("before", [False, True])
def test_hidden_states_are_those_of_all_blocks_at_full_size(name, before):
    """Whether they are asked for in the first pass or in a later one."""
    model, given = network(name), inputs(name)
    fast = accelerate(model, expedit_of(name))
    with torch.inference_mode():
        if before:
            fast(**given)
        want = model(**given, output_hidden_states=True).hidden_states
        got = fast(**given, output_hidden_states=True).hidden_states
    assert [state.shape for state in got] == [state.shape for state in want]
    assert all(state.isfinite().all() for state in got)
    assert torch.equal(got[1], want[1])
    assert not torch.equal(got[-1], want[-1])


@pytest.mark.parametrize(("name", "path"), [("dinov2", "encoder"), ("depth-anything", "backbone.encoder")])
def test_hooks_of_users_see_all_tokens(name, path):
    model, seen = network(name), []
    model.get_submodule(path).layer[2].register_forward_hook(lambda module, args, out: seen.append(out))
    run(model, name)
    run(accelerate(model, expedit_of(name)), name)
    assert seen[0].shape == seen[1].shape
    assert seen[1].isfinite().all()


def test_hooks_that_change_tokens_or_come_before_are_refused():
    model = network("dinov2")
    fast = accelerate(model, expedit_of("dinov2"))
    hook = fast.encoder.layer[2].register_forward_hook(lambda module, args, out: 2 * out)
    with pytest.raises(ValueError, match="replaces its output"):
        run(fast, "dinov2")
    hook.remove()
    fast.encoder.layer[2].register_forward_pre_hook(lambda module, args: None)
    with pytest.raises(ValueError, match="forward pre-hook"):
        run(fast, "dinov2")


def test_masks_of_tokens_are_refused():
    model, given = network("dinov2"), {**inputs("dinov2"), "attention_mask": torch.ones(1, 64).tril()}
    with torch.no_grad():
        if torch.equal(model(**given).last_hidden_state, model(**inputs("dinov2")).last_hidden_state):
            pytest.skip("this version of transformers does not read the mask either")
    with pytest.raises(ValueError, match="attention_mask: an accelerated network does not follow it"):
        accelerate(model, expedit_of("dinov2"))(**given)


def test_a_network_that_changes_tokens_between_blocks_is_refused():
    fast = accelerate(network("dinov2"), expedit_of("dinov2"))

    def forward(x, *args, **kwargs):
        for block in fast.encoder.layer:
            x = block(x, *args, **kwargs).clone()
        return x

    fast.encoder.forward = forward
    with pytest.raises(ValueError, match="tokens were changed between two blocks"):
        run(fast, "dinov2")


def test_masked_attention_of_eomt_in_training_is_refused():
    model = network("eomt")
    model.attn_mask_probs.fill_(0.5)
    with pytest.raises(ValueError, match="masks attention"):
        accelerate(model, expedit_of("eomt"))


def test_a_block_of_somebody_else_is_refused():
    model = network("dinov2")

    class Strange(type(model.encoder.layer[0])):
        def forward(self, hidden_states, *args, **kwargs):
            return super().forward(hidden_states, *args, **kwargs) + 1

    model.encoder.layer[1].__class__ = Strange
    with pytest.raises(ValueError, match="Strange computes something of its own"):
        accelerate(model, expedit_of("dinov2"))


def test_accelerated_twice_is_refused():
    fast = accelerate(network("dinov2"), expedit_of("dinov2"))
    with pytest.raises(ValueError, match="accelerated already"):
        accelerate(fast, expedit_of("dinov2"))


@dataclass(frozen=True)
class Halved:
    """Reducer: of the first half of the tokens every second one goes, the others stand for two; or do not say so."""

    guide = "tokens"
    sized: bool

    def __call__(self, x, guide, grid):
        b, n = x.shape[:2]
        pairs = n // 4
        index = torch.cat((torch.arange(2 * pairs) // 2, torch.arange(pairs, n - pairs))).expand(b, n)[:, :, None]
        sizes = torch.cat((torch.full((b, pairs), 2.0), torch.ones(b, n - 2 * pairs)), 1) if self.sized else None
        small = torch.cat((x[:, : 2 * pairs : 2], x[:, 2 * pairs :]), 1)
        return small, TokenMap(index, None, n - pairs, None, sizes)


@pytest.mark.parametrize("name", ["dinov2", "dinov3", "vit", "clip", "siglip", "pixio", "sapiens2-grouped", "vitpose"])
def test_token_sizes_reach_the_attention(name):
    """Without them the result is another one."""
    model = network(name)
    plans = (Plan({attn(1): Span(Halved(sized), attn(1), LOGITS)}) for sized in (True, False))
    sized, unsized = (run(with_plan(model, plan), name) for plan in plans)
    assert farthest(sized, unsized) > 1e-5


def test_windows_shrink_with_the_lattice():
    fast = accelerate(network("sam"), "pool(alpha=0, grid=(10, 10))")
    seen = []
    for layer in fast.vision_encoder.layers:
        layer.attn.register_forward_pre_hook(lambda module, args: seen.append(tuple(args[0].shape[:3])))
    run(fast, "sam")
    assert seen == [(9, 4, 4), (1, 10, 10), (9, 4, 4), (1, 10, 10)]


@pytest.mark.parametrize("name", ["sam", "sam2-vision", "beit", "upernet-swin"])
def test_sizes_are_refused_where_attention_goes_by_the_place_of_tokens(name):
    with pytest.raises(ValueError, match="leave size_bias out"):
        accelerate(network(name), f"expedit(alpha={alpha(name, 2)}, grid=(3, 3), top_k=1, size_bias=True)")


@pytest.mark.parametrize("name", ["zoedepth", "beit"])
def test_bias_is_read_for_the_reduced_lattice(name):
    """Full size and half of it, by the library's own resizing of its table."""
    model = network(name)
    assert isinstance(model, nn.Module)
    fast = accelerate(model, f"pool(alpha=1, grid={cells(name)})")
    assert all(value.isfinite().all() for value in run(fast, name).values())
