"""Laws on a GPU: the same as on the CPU, the same bits every time, nothing waited for. Skipped where there is none."""

import copy

import pytest
import torch

import expedit
from expedit import accelerate
from expedit.core import Grid
from expedit.operators.clustering import cluster
from expedit.operators.similarity import nearest, reading_weights
from families import NETWORKS, inputs, network, tensors

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

STATIC = (
    "expedit(alpha=6, grid=(20, 20))",
    "pool(alpha=6, grid=(20, 20))",
    "evit(keep_rate=0.7, layers=(3, 6, 9))",
    "tome(ratio=0.3)",
)
SPECS = (*STATIC, "act(query_hashes=24)")
every_method = pytest.mark.parametrize("spec", SPECS)
every_static_method = pytest.mark.parametrize("spec", STATIC)


@pytest.fixture(scope="module")
def mini():
    return expedit.load("segmenter-mini").eval()


@pytest.fixture(scope="module")
def pixels():
    return torch.randn(3, 3, 256, 256, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def run(model, pixels):
    return model(pixels)


def on_gpu(model, spec, **settings):
    """The reduced model on the GPU; the one given stays where it is."""
    return accelerate(copy.deepcopy(model), spec, **settings).to("cuda")


def gpu_share(got, want):
    return (got.argmax(1).cpu() == want.argmax(1)).float().mean()


@pytest.mark.parametrize(("tokens", "cells"), [((40, 40), (28, 28)), ((30, 30), (15, 15)), ((9, 70), (6, 41))])
@pytest.mark.parametrize("channels", [64, 1024])
def test_operators_agree_with_the_cpu(tokens, cells, channels):
    grid, small = Grid(*tokens), Grid(*cells)
    x = torch.randn(2, grid.length, channels, generator=torch.Generator().manual_seed(2))
    temperature = 8 / channels
    want = cluster(x, grid, small, 5, 5, temperature)
    got = cluster(x.cuda(), grid, small, 5, 5, temperature)
    assert (got.cpu() - want).abs().max() <= 1e-3 * want.abs().max()
    index, weight = reading_weights(x.cuda(), want.cuda(), 1, temperature)
    same = (
        index.gather(2, weight.argmax(2, keepdim=True)).cpu() == reading_weights(x, want, 1, temperature)[0]
    ).float()
    assert same.mean() >= 0.999


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_tokens_are_compared_as_in_fp32(dtype):
    generator = torch.Generator().manual_seed(3)
    x = (3 * torch.randn(2, 1600, 256, generator=generator) + 1).to(dtype).cuda()
    arguments = (Grid(40, 40), Grid(28, 28), 5, 5, 0.02)
    centres = cluster(x, *arguments)
    assert (centres - cluster(x.float(), *arguments)).abs().max() <= 1e-2
    assert (nearest(x, centres) == nearest(x.float(), centres)).float().mean() >= 0.998


@every_method
def test_agrees_with_the_cpu(mini, pixels, spec):
    want = run(accelerate(mini, spec), pixels)
    got = run(on_gpu(mini, spec), pixels.cuda())
    if spec.startswith("act"):  # its hashes fall on either side of a border by rounding
        assert gpu_share(got, want) >= 0.98
    else:
        assert gpu_share(got, want) >= 0.999


@every_method
def test_same_bits_every_time(mini, pixels, spec):
    fast, pixels = on_gpu(mini, spec), pixels.cuda()
    first = run(fast, pixels)
    assert all(torch.equal(run(fast, pixels), first) for _ in range(5))


@every_static_method
def test_a_batch_is_its_images(mini, pixels, spec):
    fast, pixels = on_gpu(mini, spec), pixels.cuda()
    together, apart = run(fast, pixels), torch.cat([run(fast, image[None]) for image in pixels])
    assert gpu_share(together, apart.cpu()) >= 0.999


@every_static_method
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_host_never_waits(mini, pixels, spec, dtype):
    """After the first image of a size, which fills the tables."""
    fast = on_gpu(mini, spec, dtype=dtype)
    pixels = pixels.to("cuda", next(fast.parameters()).dtype)
    run(fast, pixels)
    torch.cuda.set_sync_debug_mode("error")
    try:
        run(fast, pixels)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@every_static_method
def test_captured_in_a_graph(mini, pixels, spec):
    fast, still = on_gpu(mini, spec), pixels.cuda()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            run(fast, still)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        out = fast(still)
    still.copy_(pixels.flip(0))
    graph.replay()
    assert torch.allclose(out, run(fast, pixels.flip(0).cuda()), atol=1e-3)


@every_static_method
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision(mini, pixels, spec, dtype):
    want = run(accelerate(mini, spec), pixels)
    fast = on_gpu(mini, spec, dtype=dtype)
    assert gpu_share(run(fast, pixels.to("cuda", next(fast.parameters()).dtype)), want) >= 0.95


def test_autocast(mini, pixels):
    fast = on_gpu(mini, STATIC[0])
    want = run(fast, pixels.cuda())
    with torch.autocast("cuda", torch.bfloat16):
        assert gpu_share(run(fast, pixels.cuda()), want.cpu()) >= 0.95


@every_static_method
def test_compiled(mini, pixels, spec):
    torch.compiler.reset()
    want = run(on_gpu(mini, spec), pixels.cuda())
    assert gpu_share(run(on_gpu(mini, spec, compile=True), pixels.cuda()), want.cpu()) >= 0.999


@pytest.mark.parametrize("name", ["dinov2", "dinov3", "depth-anything", "eomt", "sam", "beit"])
@torch.inference_mode()
def test_families(name):
    if name not in NETWORKS:
        pytest.fail(f"{name} is no tiny network of tests/families.py")
    model = copy.deepcopy(network(name))
    share = tuple(max(round(0.7 * side), 2) for side in NETWORKS[name].grid)
    fast = accelerate(model, f"expedit(alpha=1, grid={share}, top_k=4, sharpness=1)")
    want = tensors(fast(**inputs(name)))
    fast = fast.to("cuda")
    given = {key: value.cuda() if isinstance(value, torch.Tensor) else value for key, value in inputs(name).items()}
    got = tensors(fast(**given))
    for key, value in want.items():
        assert (got[key].cpu() - value).abs().max() <= 5e-3 * value.abs().max().clamp_min(1e-6), key
