"""Which rows belong together in a plot."""

from expedit.comparison.plots import tints
from expedit.comparison.result import Row


def test_a_chain_of_methods_is_a_method_of_its_own():
    specs = ("shrink(scale=0.9)", "shrink(scale=0.9) + regions(keep=0.8)", "shrink(scale=0.8) + regions(keep=0.7)")
    alone, chain, other = tints([Row(spec, 1, 1, 1) for spec in specs])
    assert alone != chain == other
