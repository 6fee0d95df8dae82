"""Who is faster than dense, why others are not, whom to look at first."""

from expedit.comparison.ranking import by_time, suggested, verdict
from expedit.comparison.result import Comparison, Row
from expedit.evaluation.judge import Metric

MIOU = Metric("miou", "mIoU", "…")
SAME = Metric("pixel_agreement", "agreement", "…")
APART = Metric("relative_difference", "distance", "…", share=False, higher=False)
DENSE = Row("dense", 9, 4.0, 1.0, ms=100.0, speedup=1.0, efficiency=1.0, value=0.8, delta=0.0, agreement=1.0)


def row(spec, ms, gmacs=2.0, agreement=None, delta=None):
    speedup = None if ms is None else 100 / ms
    efficiency = None if speedup is None else speedup / (4 / gmacs)
    value = None if delta is None else 0.8 + delta
    more = {"value": value, "delta": delta, "agreement": agreement}
    return Row(spec, 9, gmacs, 4 / gmacs, ms=ms, speedup=speedup, efficiency=efficiency, **more)


def of(*rows, agreement=SAME):
    return Comparison("x", MIOU, agreement, (DENSE, *rows), {})


def test_rows_are_sorted_by_time_and_by_multiply_adds_where_nothing_was_timed():
    assert [r.spec for r in by_time([DENSE, row("a", 120.0), row("b", 50.0)])] == ["b", "dense", "a"]
    assert [r.spec for r in by_time([row("a", None, 3.0), row("b", None, 1.0)])] == ["b", "a"]


def test_the_verdict_says_why_a_setting_is_slower():
    assert verdict((DENSE, row("a", 50.0), row("b", 125.0))) == (
        "1 of 2 settings are faster than dense here. Not b: it saves 50 % of the multiply-adds, but does the others at "
        "0.40 of the dense rate."
    )
    assert verdict((DENSE, row("a", 125.0, gmacs=4.0))).endswith("Not a: it needs as many multiply-adds.")
    assert verdict((DENSE, row("a", None))) is None


def test_the_fastest_setting_that_stays_close_is_shown_first():
    assert suggested(of(row("near", 80.0, agreement=0.99), row("fast", 60.0, agreement=0.96))) == "fast"
    assert suggested(of(row("near", 80.0, agreement=0.90), row("far", 20.0, agreement=0.7))) == "near"
    assert suggested(of(row("near", 80.0, delta=-0.02), row("far", 20.0, delta=-0.3), agreement=None)) == "near"
    apart = of(row("near", 80.0, agreement=0.01), row("far", 20.0, agreement=0.4), agreement=APART)
    assert suggested(apart) == "near"
    assert suggested(of()) is None
