import pytest
from hypothesis import given
from hypothesis import strategies as st

from expedit import (
    ACT,
    ALGM,
    ATS,
    METHODS,
    MPM,
    AiluRus,
    CubistMerge,
    EViT,
    EvoViT,
    Expedit,
    MixedScale,
    PiToMe,
    Pool,
    ToMe,
    ToMe2D,
)
from expedit.spec import parse

methods = st.one_of(
    st.builds(
        Expedit,
        alpha=st.integers(0, 40),
        grid=st.tuples(st.integers(5, 40), st.integers(5, 40)) | st.floats(0.01, 1),
        iterations=st.integers(0, 9),
        neighbourhood=st.sampled_from([1, 3, 5, 7]),
        sharpness=st.floats(0.1, 99),
        temperature=st.none() | st.floats(1e-4, 10),
        top_k=st.integers(1, 25) | st.just(-1),
        restore_temperature=st.none() | st.floats(1e-4, 10),
        normalize=st.sampled_from(["l2", "l1"]),
        restore=st.sampled_from(["logits", "features"]),
        official_weights=st.booleans(),
    ),
    st.builds(
        EViT,
        keep_rate=st.floats(0.01, 1),
        layers=st.sets(st.integers(0, 30), min_size=1).map(tuple),
        fuse=st.booleans(),
        top_k=st.integers(1, 9),
    ),
    st.builds(ToMe, ratio=st.floats(0, 1)),
    st.builds(
        ToMe2D,
        ratio=st.floats(0, 1),
        branches=st.sampled_from(["attention", "mlp", "both"]),
        stride=st.integers(2, 5),
    ),
    st.builds(
        PiToMe,
        keep=st.floats(0.01, 1),
        alpha=st.integers(0, 9),
        margin=st.floats(0, 1),
        size_bias=st.booleans(),
    ),
    st.builds(
        AiluRus,
        alpha=st.integers(0, 9),
        keep=st.floats(0.01, 1),
        neighbours=st.integers(1, 9),
        radius=st.integers(1, 9),
        spatial=st.floats(0, 9),
        size_bias=st.booleans(),
    ),
    st.builds(
        ALGM,
        windows=st.floats(0, 1),
        ratio=st.floats(0, 1),
        layers=st.tuples(st.integers(0, 3), st.integers(4, 9)),
        size_bias=st.booleans(),
    ),
    st.builds(
        MPM,
        ratio=st.floats(0, 0.5),
        layers=st.sets(st.integers(0, 30), min_size=1).map(tuple),
        size_bias=st.booleans(),
    ),
    st.builds(
        CubistMerge,
        alpha=st.integers(0, 40),
        grid=st.tuples(st.integers(1, 40), st.integers(1, 40)) | st.floats(0.5, 1),
    ),
    st.builds(
        ATS,
        keep_rate=st.floats(0.01, 1),
        layers=st.sets(st.integers(0, 30), min_size=1).map(tuple),
    ),
    st.builds(
        EvoViT,
        keep_rate=st.floats(0.01, 1),
        layers=st.sets(st.integers(0, 30), min_size=1).map(tuple),
    ),
    st.builds(
        MixedScale, keep=st.floats(0.01, 1), smooth=st.booleans(), restore=st.sampled_from(("features", "delta"))
    ),
    st.builds(ACT, query_hashes=st.integers(1, 32), seed=st.integers(0, 99)),
    st.builds(
        Pool,
        alpha=st.integers(0, 40),
        grid=st.tuples(st.integers(1, 40), st.integers(1, 40)) | st.floats(0.01, 1),
    ),
)


@given(methods)
def test_repr_is_the_spec(method):
    assert parse(repr(method)) == method


@pytest.mark.parametrize("name", METHODS)
def test_a_bare_name_is_the_default(name):
    assert parse(name) == parse(f"{name}()") == METHODS[name]()


def test_defaults():
    """Published ones but for Expedit's scale-free sharpness, averaging weights and grids as a share."""
    assert parse("Expedit(alpha=10, grid=(28, 28))") == Expedit(
        alpha=10,
        grid=(28, 28),
        iterations=5,
        neighbourhood=5,
        sharpness=8.0,
        temperature=None,
        top_k=20,
        restore_temperature=None,
        normalize="l1",
        restore="logits",
        official_weights=False,
    )
    assert parse("expedit") == Expedit(alpha=10, grid=0.7)
    assert parse("evit") == EViT(keep_rate=0.8, layers=(7, 13, 19), fuse=True, top_k=1, restore_temperature=0.005)
    assert parse("tome") == ToMe(ratio=0.3)
    assert parse("act") == ACT(query_hashes=24, seed=0)
    assert parse("pool") == Pool(alpha=10, grid=0.7)


def test_a_method_object_passes_through():
    method = ToMe(ratio=0.4)
    assert parse(method) is method


def test_lists_become_tuples():
    assert parse("expedit(grid=[20, 30])").grid == (20, 30)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tomme(ratio=0.3)", "did you mean 'tome'"),
        ("nothing", "unknown method"),
        ("tome(rate=0.3)", "accepted are tome\\(ratio\\)"),
        ("tome(0.3)", "by name"),
        ("tome(ratio=0.3, ratio=0.4)", "every setting once, got 'ratio' twice"),
        ("tome(ratio=", "expected a name with settings"),
        ("", "expected a name with settings"),
        ("3", "expected a name with settings"),
        ("a.b()", "expected a name with settings"),
        ("tome(ratio=__import__('os'))", "expected a literal"),
        ("tome(ratio='much')", "expected a number"),
        ("tome(ratio={[]})", "expected a literal"),
        ("evit(layers=([7],))", "layers: expected an integer"),
        ("evit(layers=7)", "layers: expected some blocks"),
        ("(" * 9000 + ")" * 9000, "expected a method of at most 1000 characters"),
        ("tome(ratio=1.5)", "expected a number"),
        ("tome(**{'ratio': 0.3})", "unknown setting"),
        ("expedit(grid=28)", "two integers"),
        ("expedit(grid=(28, 0))", "integer >= 1"),
        ("expedit(neighbourhood=4)", "odd"),
        ("expedit(alpha=-1)", "alpha"),
        ("expedit(alpha=True)", "alpha"),
        ("expedit(grid=(3, 3), top_k=0)", "top_k: expected an integer >= 1, got 0"),
        ("expedit(temperature=0)", "temperature"),
        ("expedit(grid=1.5)", "two integers .* or a share of each side in \\(0, 1\\], got 1.5"),
        ("pool(grid=0.0)", "or a share"),
        ("pool(grid='0.7')", "or a share"),
        ("expedit(grid=True)", "or a share"),
        ("expedit(sharpness=0)", "sharpness"),
        ("expedit(official_weights='no')", "official_weights"),
        ("expedit(normalize='l3')", "'l1', 'l2'"),
        ("evit(keep_rate=0)", "keep_rate"),
        ("evit(layers=())", "layers"),
        ("evit(layers=(3, 3))", "layers"),
        ("act(query_hashes=33)", "1..32"),
    ],
)
def test_wrong_specs_say_what_is_accepted(spec, message):
    with pytest.raises(ValueError, match=message):
        parse(spec)
