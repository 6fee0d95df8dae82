"""Reference tensors of the official code: clustering, reconstruction, Segmenter, EViT, ToMe, ACT."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from expedit import ACT, EViT, Expedit, ToMe, accelerate
from expedit.core import Grid, TokenMap, to_tokens
from expedit.methods.act import QueryClusters
from expedit.models import Segmenter
from expedit.operators.clustering import cluster
from expedit.operators.similarity import nearest, reading_weights

ATOL = 1e-4


def golden(shared, name):
    path = shared / "goldens" / f"{name}.safetensors"
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
    return load_file(path), config


@pytest.fixture(scope="module")
def state(shared):
    return load_file(shared / "goldens" / "segmenter_a_weights.safetensors")


@pytest.fixture(scope="module")
def segmenter(state):
    return Segmenter.from_state_dict(state, num_heads=4)


def assert_close(got, want, atol=ATOL):
    assert got.shape == want.shape
    assert (got - want).abs().max() <= atol


@pytest.mark.parametrize(
    "name", ["40x40_to_28x28", "30x30_to_15x15", "windows_12x12_to_8x8", "14x10_to_7x5", "16x16_to_6x6_iter1"]
)
def test_clustering(shared, name):
    t, c = golden(shared, f"clustering_{name}")
    feature_map = t["input.feature_map"]
    tokens = to_tokens(feature_map)
    grid = Grid(*feature_map.shape[2:])
    settings = (c["neighbourhood"], c["temperature"])
    centres = cluster(tokens, grid, Grid(*c["grid"]), c["iterations"], *settings)
    assert_close(centres, t["output.centres"], 2e-4)
    assert_close(cluster(tokens, grid, Grid(*c["grid"]), 0, *settings), t["aux.initial_centres"])
    clear = t["aux.label_margin"] > 1e-2
    assert torch.equal(nearest(tokens, centres)[:, :, 0][clear], t["output.hard_labels"].long()[clear])


@pytest.mark.parametrize("name", ["20x20_from_14x14", "windows_12x12_from_8x8"])
def test_reconstruction(shared, name):
    t, c = golden(shared, f"reconstruction_{name}")
    for case in c["cases"]:
        index, weight = reading_weights(
            t["input.tokens_before"], t["input.centres"], case["top_k"], case["temperature"]
        )
        got = TokenMap(index, weight, t["input.centres"].shape[1]).up(t["input.cluster_values"])
        prefix = f"case{case['case']}"
        clear = t.get(f"aux.{prefix}.kth_gap", torch.ones(got.shape[:2])) > 1e-4
        for variant in ("unclamped", "clamped"):
            if f"output.{prefix}.{variant}" in t:
                assert_close(got[clear], t[f"output.{prefix}.{variant}"][clear])


@pytest.mark.parametrize("k", [1, 3, 4])
def test_ties_at_the_kth_weight_stay(shared, k):
    t, _ = golden(shared, "reconstruction_ties_and_underflow")
    index, weight = reading_weights(t["tie.tokens_before"], t["tie.centres"], k, 0.02)
    assert_close(TokenMap(index, weight, 24).up(t["tie.cluster_values"]), t[f"tie.output.k{k}"], 1e-5)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.02), (4, 0.02), (4, 0.05)])
def test_underflow(shared, k, temperature):
    t, _ = golden(shared, "reconstruction_ties_and_underflow")
    index, weight = reading_weights(t["underflow.tokens_before"], t["underflow.centres"], k, temperature, official=True)
    got = TokenMap(index, weight, 24).up(t["underflow.cluster_values"])
    want = t[f"underflow.output.k{k}.t{temperature}"]
    assert torch.allclose(got, want, atol=1e-5, rtol=2e-3)


@torch.inference_mode()
def test_segmenter(shared, state, segmenter):
    t, _ = golden(shared, "segmenter_a_baseline")
    assert_close(segmenter.encoder(t["input.image"]), t["output.encoder_map"])
    assert_close(segmenter.patch_logits(t["input.image"]), t["output.patch_logits"])
    assert_close(segmenter(t["input.image"]), t["output.logits"])
    original = Segmenter.from_state_dict(state, num_heads=4, norm_eps=1e-5, pos_embed="bilinear")
    assert_close(original.patch_logits(t["input.image"]), t["output.patch_logits_eps1e-5"])
    assert_close(original(t["resized.image"]), t["resized.logits"])


def as_expedit(c):
    return Expedit(
        alpha=c["alpha"],
        grid=(c["grid"], c["grid"]),
        iterations=c["iterations"],
        neighbourhood=c["neighbourhood"],
        temperature=c["temperature_cluster"],
        top_k=c["top_k"],
        restore_temperature=c["temperature_reconstruct"],
        normalize="l2",
        official_weights=True,
    )


@pytest.mark.parametrize("name", ["alpha2_4x4", "alpha3_3x3", "alpha1_5x5"])
@torch.inference_mode()
def test_expedit(shared, segmenter, name):
    t, c = golden(shared, f"segmenter_a_hourglass_{name}")
    fast = accelerate(segmenter, as_expedit(c))
    assert_close(fast.patch_logits(t["input.image"]), t["output.patch_logits"])
    assert_close(fast(t["input.image"]), t["output.logits"])


@pytest.mark.parametrize("name", ["keep80_fuse", "keep50_fuse", "keep80_nofuse_k3"])
@torch.inference_mode()
def test_evit(shared, segmenter, name):
    t, c = golden(shared, f"segmenter_a_evit_{name}")
    method = EViT(c["keep_rate"], tuple(c["prune_layers"]), c["fuse"], c["top_k"], c["temperature_reconstruct"])
    fast = accelerate(segmenter, method)
    assert_close(fast.encoder(t["input.image"]), t["output.encoder_map"])
    assert_close(fast(t["input.image"]), t["output.logits"])
    # The official code is only right for batch 1; ours treats every sample on its own.
    other = torch.randn_like(t["input.image"])
    assert_close(fast(torch.cat((other, t["input.image"])))[1:], t["output.logits"])


@pytest.mark.parametrize("name", ["r20", "r30", "r50"])
@torch.inference_mode()
def test_tome(shared, segmenter, name):
    t, c = golden(shared, f"segmenter_a_tome_{name}")
    fast = accelerate(segmenter, ToMe(ratio=c["merge_fraction"]))
    assert_close(fast.encoder(t["input.image"]), t["output.encoder_map"])
    assert_close(fast.patch_logits(t["input.image"]), t["output.patch_logits"])
    assert_close(fast(t["input.image"]), t["output.logits"])


@pytest.mark.parametrize("name", ["h16", "h32"])
@torch.inference_mode()
def test_act(shared, segmenter, name):
    t, c = golden(shared, f"segmenter_a_act_{name}")
    fast = accelerate(segmenter, ACT(query_hashes=c["query_hashes"]))
    for layer, kernel in enumerate(fast.encoder.kernels):
        kernel.projection.copy_(t["input.hash_projection"][layer])
        kernel.bias.copy_(t["input.hash_bias"][layer])
    assert_close(fast.patch_logits(t["input.image"]), t["output.patch_logits"])
    assert_close(fast(t["input.image"]), t["output.logits"])


@pytest.mark.parametrize("name", ["attention", "attention_packing_h32", "attention_packing_h8"])
def test_act_grouping(shared, name):
    t, c = golden(shared, f"act_{name}")
    q, k, v = t["input.queries"], t["input.keys"], t["input.values"]
    for case in c["cases"]:
        name = f"h{case['hashes']}"
        kernel = QueryClusters(t[f"{name}.hash_projection"], t[f"{name}.hash_bias"])
        assert torch.equal(kernel.codes(q), t[f"{name}.codes"])
        group = kernel.groups(q)
        assert torch.equal(group, t[f"{name}.cluster_index"].long())
        counts = torch.nn.functional.one_hot(group).sum(1)
        assert torch.equal(counts, t[f"{name}.cluster_counts"].long())
        # The file's queries are scaled already, the kernel scales its own.
        assert_close(kernel((q * q.shape[-1] ** 0.5)[None], k[None], v[None])[0], t[f"{name}.output"])
