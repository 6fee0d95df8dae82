"""Spec strings with junk in them are a method or one sentence; nothing else comes out.

``EXPEDIT_FUZZ_EXAMPLES=60000 pytest tests/test_spec_fuzz.py`` looks further.
"""

import os

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from expedit import METHODS
from expedit.core import Method
from expedit.spec import parse

LITERALS = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.complex_numbers(),
        st.text(max_size=4),
        st.binary(max_size=4),
        st.just(...),
        st.sampled_from([10**30, -(10**400), 1e308, 5e-324, -0.0]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=2), inner, max_size=2),
    ),
    max_leaves=5,
).map(repr)
NAMES = sorted({name for method in METHODS.values() for name in method.__dataclass_fields__})
CALLS = st.builds(
    lambda name, given: f"{name}({', '.join(f'{key}={value}' for key, value in given.items())})",
    st.sampled_from([*METHODS]),
    st.dictionaries(st.sampled_from(NAMES), LITERALS, max_size=3),
)
PIECES = st.sampled_from(["(", ")", "=", ",", "+", "*", "[", "-", "\\", "'", "\0", "\n", "lambda:", "é", "9" * 5000])


@st.composite
def specs(draw):
    """Calls, one setting of a method with any literal, and either of them with pieces thrown in."""
    name = draw(st.sampled_from([*METHODS]))
    setting = draw(st.sampled_from([*METHODS[name].__dataclass_fields__] or ["x"]))
    text = draw(st.one_of(CALLS, st.just(f"{name}({setting}={draw(LITERALS)})"), st.text(max_size=20)))
    for piece in draw(st.lists(PIECES, max_size=2)):
        place = draw(st.integers(0, len(text)))
        text = text[:place] + piece + text[place:]
    return text


@pytest.mark.timeout(0)
@settings(deadline=None, max_examples=int(os.environ.get("EXPEDIT_FUZZ_EXAMPLES", "300")), database=None)
@given(specs())
@example("expedit(alpha=" + "-" * 5000 + "1)")
@example("expedit(alpha=" + "[" * 90 + "]" * 90 + ")")
@example("expedit(alpha=" + "1+" * 3000 + "1)")
@example("tome" + "()" * 3000)
@example("expedit(alpha='\\d')")
@example("expedit(**{'alpha': 3})")
@example("expedit(*[3])")
@example("evit(layers=(1, 'a'))")
@example("tome(ratio={[]})")
@example("pool(alpha=f'{1}')")
@example("@")
@example("@\0")
@example("@nowhere")
@example("@" + 900 * "x")
@example("+".join(["shrink(scale=0.5)"] * 3000))
def test_a_spec_is_a_method_or_one_sentence(text):
    try:
        method = parse(text)
    except (ValueError, FileNotFoundError) as error:
        sentence = str(error)
        kind = type(error)
    else:
        assert isinstance(method, Method)
        assert parse(repr(method)) == method
        return
    assert kind in (ValueError, FileNotFoundError)
    assert 0 < len(sentence) < 5000
    assert "\n" not in sentence
