import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from expedit.comparison import plots
from expedit.comparison.report import write_report
from expedit.comparison.result import Comparison, Example, Row, View
from expedit.evaluation.judge import Metric
from expedit.prediction import Prediction, Segment

CLASSES = ("sky", "grass", "<b>ball</b>", "never seen")
PALETTE = ((120, 180, 240), (90, 160, 60), (220, 60, 80), (1, 2, 3))
SPECS = ("expedit(alpha=2, grid=(4, 4))", "expedit(alpha=4, grid=(4, 4))", "tome(ratio=0.3)", "act(query_hashes=24)")
NASTY = '</title><script>alert("x")</script> & co'


class Page(HTMLParser):
    """Tags with their attributes, and the text of table cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.table: list[list[str]] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.table.append([])
        if tag in ("td", "th"):
            self.table[-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.table[-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


MIOU = Metric("miou", "mIoU", "mean intersection over union with the ground truth")
AGREEMENT = Metric("pixel_agreement", "agreement", "pixels that get the dense model's class")


def row(spec: str, tokens: float, gmacs: float, ms: float | None, value: float | None, **more: float | None) -> Row:
    times = {"ms": ms, "speedup": ms and 100 / ms, "efficiency": ms and 0.94}
    return Row(spec, tokens, gmacs, 2 / gmacs, value=value, agreement=0.97, **times, **more)


def rows(value: bool = True) -> list[Row]:
    table = [row("dense", 64, 2.0, 100.0, 0.8 if value else None, delta=0.0 if value else None)]
    for i, spec in enumerate(SPECS):
        scores = {"value": 0.79 - i / 100, "delta": -0.01} if value else {"value": None}
        clusters = 61.5 if value and spec.startswith("act") else None
        table.append(row(spec, 40 - i, 1.5 - i / 10, 80.0 - i, clusters=clusters, **scores))
    return table


def semantic(labels: np.ndarray) -> Prediction:
    return Prediction("semantic", CLASSES, PALETTE, labels)


def example(name: str, truth: bool = True) -> Example:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 96, 3)).astype(np.uint8)
    labels = np.zeros((64, 96), np.uint8)
    labels[30:], labels[10:20, 10:30] = 1, 2
    views = [View("dense", semantic(labels), None)]
    for spec in SPECS:
        other = labels.copy()
        other[:16, :48] = 1
        views.append(View(spec, semantic(other), None if spec.startswith("tome") else rng.integers(0, 20, (8, 12))))
    return Example(name, image, semantic(labels) if truth else None, tuple(views))


def report(folder: Path, title: str = "Toy", truth: bool = True, **changes: object) -> Path:
    path = folder / "report.html"
    given: dict = {
        "rows": rows(truth),
        "examples": [example("first", truth), example("second", truth)],
        "facts": {"threads": "2", "command": "expedit compare <fast>"},
        "metric": MIOU,
        "agreement": AGREEMENT,
        **changes,
    }
    comparison = Comparison(title, given["metric"], given["agreement"], tuple(given["rows"]), given["facts"])
    write_report(path, comparison, given["examples"])
    return path


def pictures(page: Page) -> list[tuple[str, bytes]]:
    found = []
    for image in page.all("img"):
        mime, data = re.fullmatch(r"data:(image/[a-z+]+);base64,(.+)", image["src"] or "").groups()
        found.append((mime, base64.b64decode(data, validate=True)))
    return found


def test_every_row_is_in_the_table(tmp_path: Path) -> None:
    page = Page(report(tmp_path).read_text("utf-8"))
    head, *body = page.table
    assert [line[0].strip() for line in body] == [*reversed(SPECS), "dense"], "fastest first"
    assert all(len(line) == len(head) for line in body)
    act = dict(zip(head, body[0], strict=True))
    assert act["tokens"] == "37"
    assert act["clusters"] == "61.5"
    assert act["GMACs"] == "1.20"
    assert act["ms / image"] == "77.0"
    assert act["mIoU %"] == "76.00"
    assert act["ΔmIoU"] == "−1.00"
    assert act["agreement %"] == "97.00"


def test_every_picture_is_inside_and_can_be_read(tmp_path: Path) -> None:
    page = Page(report(tmp_path).read_text("utf-8"))
    found = pictures(page)
    plots = [data for mime, data in found if mime == "image/svg+xml"]
    assert len(plots) == 4
    costs = (b"milliseconds per image (median)", b"GMACs per image") * 2
    qualities = (b"mIoU (%)",) * 2 + (b"agreement with dense (%)",) * 2
    for data, cost, quality in zip(plots, costs, qualities, strict=True):
        assert all(f">{name}</text>".encode() in data for name in ("dense", "expedit", "tome", "act"))
        assert cost in data
        assert quality in data
    per_example = 4 + sum(2 if spec.startswith("tome") else 3 for spec in SPECS)
    rasters = [(mime, data) for mime, data in found if mime != "image/svg+xml"]
    assert len(rasters) == 2 * per_example
    assert [mime for mime, _ in rasters].count("image/jpeg") == 2
    for _, data in rasters:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
            assert picture.size == (96, 64)
    assert all(image.get("alt") for image in page.all("img"))


def test_masks_keep_their_exact_colours(tmp_path: Path) -> None:
    page = Page(report(tmp_path).read_text("utf-8"))
    truth = next(
        data for (mime, data), tag in zip(pictures(page), page.all("img"), strict=True) if "Ground" in tag["alt"]
    )
    with Image.open(io.BytesIO(truth)) as picture:
        assert picture.mode == "P"
        seen = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(seen, np.array(PALETTE, np.uint8)[example("first").truth.labels])


def test_agreement_of_a_card_counts_the_equal_pixels(tmp_path: Path) -> None:
    text = report(tmp_path).read_text("utf-8")
    expected = 100 * (1 - 16 * 48 / (64 * 96))
    assert text.count(f"<b>{expected:.1f} %</b>") == 2 * len(SPECS)


def test_best_in_column_leaves_dense_out(tmp_path: Path) -> None:
    text = report(tmp_path).read_text("utf-8")
    lines = re.findall(r"<tr.*?</tr>", text, re.S)[1:]
    assert "best" not in lines[-1]
    assert re.search(r'class="best"><span>79\.00<', lines[3])
    assert re.search(r'class="best"><span>1\.20<', lines[0])


def test_texts_are_escaped(tmp_path: Path) -> None:
    path = report(tmp_path, NASTY, examples=[example(NASTY)], facts={NASTY: NASTY})
    text = path.read_text("utf-8")
    page = Page(text)
    assert 'alert("x")' not in text
    assert "&lt;script&gt;" in text
    assert "<b>ball</b>" not in text
    assert len(page.all("script")) == 1


def test_nothing_is_fetched(tmp_path: Path) -> None:
    text = report(tmp_path).read_text("utf-8")
    page = Page(text)
    for _, attributes in page.tags:
        for name in ("src", "href", "action", "srcset", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#"))
    assert not page.all("link")
    assert "@import" not in text
    assert not re.search(r"url\(|https?:", text)
    for mime, data in pictures(page):
        if mime == "image/svg+xml":
            assert not re.search(rb"(href|src)=\"(?!#)|url\((?!#)|<script", data)


def test_twenty_methods_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    table = tuple(row(f"method{i}()", 9, 1.0, 50.0, 0.5) for i in range(20))
    assert len(set(plots.tints(table))) == 20
    plot, drawn = Axes.plot, []

    def noted(axes, *points, color, marker, **style):
        drawn.append((color, marker))
        return plot(axes, *points, color=color, marker=marker, **style)

    monkeypatch.setattr(Axes, "plot", noted)
    plots.trade_offs(Comparison("many", MIOU, None, table, {}))
    assert len(set(drawn)) == 20


def test_without_ground_truth_only_agreement_is_plotted(tmp_path: Path) -> None:
    page = Page(report(tmp_path, truth=False).read_text("utf-8"))
    assert [mime for mime, _ in pictures(page)].count("image/svg+xml") == 2
    assert not {"mIoU %", "ΔmIoU", "clusters"} & set(page.table[0])
    assert not any("Ground truth" in (image["alt"] or "") for image in page.all("img"))


@pytest.mark.parametrize("task", ["panoptic", "instance"])
def test_segments_are_drawn_over_the_picture(tmp_path: Path, task: str) -> None:
    image, ids = np.full((60, 90, 3), 255, np.uint8), np.zeros((60, 90), np.int32)
    ids[:, :30], ids[:, 60:] = 7, 9
    moved = np.roll(ids, 9, 1)

    def prediction(ids: np.ndarray) -> Prediction:
        segments = (Segment(7, 2, 0.9), Segment(9, 1, 0.8))
        if task == "panoptic":
            return Prediction(task, CLASSES, PALETTE, ids, segments)
        return Prediction(task, CLASSES, PALETTE, segments=segments, masks=np.stack([ids == 7, ids == 9]))

    views = View("dense", prediction(ids), None), View(SPECS[0], prediction(moved), np.arange(6).reshape(2, 3))
    one = Example("one", image, prediction(ids), views)
    text = report(tmp_path, examples=[one], metric=Metric("PQ", "PQ", "panoptic quality"), agreement=None).read_text()
    page = Page(text)
    captions = [image["alt"].removeprefix("one, ") for image in page.all("img")][2:]
    given = ["Picture", "Ground truth", "Dense prediction"]
    card = [f"{SPECS[0]}: {name}" for name in ("Prediction", "Difference", "6 clusters")]
    if task == "instance":
        del card[1]
    else:
        given.append("Dense against truth: 100.0% equal")
        assert f"<b>{100 * (moved == ids).mean():.1f} %</b> as dense" in text
    assert captions == given + card
    assert ("as dense</span>" in text) == (task == "panoptic")
    assert {"PQ %", "ΔPQ"} < set(page.table[0])
    assert "agreement %" not in page.table[0]
    assert ("grass</li>" in text, "sky</li>" in text) == (True, False)
    shown = [Image.open(io.BytesIO(data)).convert("RGB") for mime, data in pictures(page) if mime == "image/jpeg"]
    assert np.abs(np.asarray(shown[0]).astype(int) - 255).max() < 5
    assert np.asarray(shown[1])[3, 5, 1] < 200 < np.asarray(shown[1])[3, 45].min()


def test_less_can_be_better(tmp_path: Path) -> None:
    error = Metric("abs_rel", "abs rel", "mean relative error of depths", share=False, higher=False)
    text = report(tmp_path, metric=error).read_text()
    head = Page(text).table[0]
    assert {"abs rel", "Δabs rel"} < set(head)
    assert re.search(r'class="best"><span>0\.76<', re.findall(r"<tr.*?</tr>", text, re.S)[1])


def test_without_examples_the_table_stands_alone(tmp_path: Path) -> None:
    page = Page(report(tmp_path, examples=[]).read_text("utf-8"))
    assert len(page.table) == 1 + len(rows())
    assert len(page.all("img")) == 4


def test_only_classes_that_appear_are_in_the_legend(tmp_path: Path) -> None:
    text = report(tmp_path).read_text("utf-8")
    assert "grass</li>" in text
    assert "&lt;b&gt;ball&lt;/b&gt;</li>" in text
    assert "never seen" not in text


def test_not_a_number_is_a_dash_and_never_the_best(tmp_path: Path) -> None:
    broken = [*rows(), row("pool()", 10, 1.0, float("nan"), 0.5)]
    page = Page(report(tmp_path, rows=broken).read_text("utf-8"))
    cells = dict(zip(page.table[0], page.table[-1], strict=True))
    assert cells["ms / image"] == "–"


def test_large_pictures_are_made_smaller(tmp_path: Path) -> None:
    labels = np.zeros((1700, 900), np.uint8)
    large = Example(
        "large", np.zeros((1700, 900, 3), np.uint8), semantic(labels), (View("dense", semantic(labels), None),)
    )
    found = pictures(Page(report(tmp_path, examples=[large]).read_text("utf-8")))
    sizes = [Image.open(io.BytesIO(data)).size for mime, data in found if mime != "image/svg+xml"]
    assert len(sizes) == 4
    assert all(max(size) <= 800 for size in sizes)


def test_the_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = report(tmp_path / "new" / "folder")
    before = path.read_bytes()

    def fails(self: Path, target: Path) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OSError, match="disk full"):
        report(path.parent, "Another title")
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_the_same_input_gives_the_same_file(tmp_path: Path) -> None:
    assert report(tmp_path / "a").read_bytes() == report(tmp_path / "b").read_bytes()


def test_wrong_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one row"):
        report(tmp_path, rows=[])
    odd = Example("odd", np.zeros((8, 8, 3), np.uint8), None, (View("dense", semantic(np.zeros((4, 4), int)), None),))
    with pytest.raises(ValueError, match=r"odd, dense: expected a prediction of shape \(8, 8\), got \(4, 4\)"):
        report(tmp_path, examples=[odd])
    bare = Example("bare", np.zeros((8, 8, 3), np.uint8), None, ())
    with pytest.raises(ValueError, match="bare: expected the dense view first"):
        report(tmp_path, examples=[bare])
    assert not list(tmp_path.iterdir())


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_the_whole_page(tmp_path: Path, browser, width: int, scheme: str) -> None:
    """From a file: all pictures decode, nothing is fetched, nothing complains, nothing needs sideways scrolling."""
    path = report(tmp_path, title="A title that is as long as the name of a model and its data set are at times")
    said, fetched = [], []
    with browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme) as context:
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: fetched.append(request.url))
        page.goto(path.as_uri())
        loaded, total = map(int, page.evaluate("document.documentElement.dataset.pictures").split("/"))
        assert loaded == total == len(Page(path.read_text("utf-8")).all("img")) + 3 * 2
        assert page.evaluate("document.documentElement.scrollWidth") == width
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 21, 25)"
    assert dark == (scheme == "dark")
    assert not said
    assert all(url == path.as_uri() or url.startswith("data:") for url in fetched)


@pytest.mark.browser
def test_a_slider_over_the_picture_shows_dense_left_and_reduced_right(tmp_path: Path, browser) -> None:
    page = browser.new_page()
    page.goto(report(tmp_path, examples=[example("first")]).as_uri())
    frame = page.locator(".frame")
    before = frame.screenshot()
    box = frame.bounding_box()
    page.mouse.click(box["x"] + 0.9 * box["width"], box["y"] + box["height"] / 2)
    share = page.evaluate("document.querySelector('.frame').style.getPropertyValue('--at')")
    assert float(share.removesuffix("%")) == pytest.approx(90, abs=1.5)
    assert frame.screenshot() != before
    shown = "[...document.querySelectorAll('.frame img')].map((img) => [img.className, img.alt])"
    chosen = page.locator("#setting").input_value()
    assert page.evaluate(shown)[1:] == [
        ["dense", "first, Dense prediction"],
        ["reduced", f"first, {chosen}: Prediction"],
    ]
    page.locator("#setting").select_option(SPECS[2])
    assert page.evaluate(shown)[2] == ["reduced", f"first, {SPECS[2]}: Prediction"]
    assert page.locator("#said").inner_text() == (
        "1.28 × the dense model's speed, 1.54 × fewer multiply-adds, mIoU 77.00 %, agreement 97.00 %"
    )
    page.locator(".frame input").focus()
    page.keyboard.press("Home")
    assert page.evaluate("document.querySelector('.frame').style.getPropertyValue('--at')") == "0%"
    page.close()


@pytest.mark.browser
def test_a_click_on_a_heading_sorts_the_table(tmp_path: Path, browser) -> None:
    page = browser.new_page()
    page.goto(report(tmp_path).as_uri())
    page.get_by_role("button", name="clusters").click()
    names = [text.strip() for text in page.locator("tbody th").all_inner_texts()]
    act = next(spec for spec in SPECS if spec.startswith("act"))
    assert names == [act, *reversed([spec for spec in SPECS if spec != act]), "dense"]
    page.close()
