"""The page of ``expedit explore``: its parts, and in a browser from an upload to a moved slider."""

import io

import pytest
from PIL import Image

import expedit
from data_files import picture
from expedit import METHODS
from expedit.cli import main
from expedit.comparison.explorer import Explorer
from expedit.spec import parse


@pytest.fixture(scope="module")
def explorer():
    return Explorer(expedit.load("segmenter-mini"), "segmenter-mini")


QUICK = ("expedit", "regions", "shrink")


@pytest.mark.parametrize(
    "method", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]
)
def test_every_method_can_be_looked_at(explorer, method, monkeypatch):
    monkeypatch.setattr("expedit.comparison.explorer.ROUNDS", 1)
    image = picture(48, 64)
    spec = explorer.spec(method, {name: knob.start for name, knob in explorer.knobs.items()})
    look = explorer.look(image, spec)
    assert look.dense.shape == look.reduced.shape == (48, 64, 3)
    assert look.ms > 0 < look.dense_ms
    assert f'expedit.accelerate(model, "{spec}")' in look.code
    assert type(parse(spec)) is METHODS[method]


def test_the_code_shown_runs(explorer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture(48, 64)).save("photo.jpg")
    code = explorer.look(picture(48, 64), "pool(alpha=3, grid=0.5)").code
    exec(compile(code, "shown", "exec"), names := {})
    assert names["prediction"].labels.shape == (48, 64)


def test_settings_reach_the_method_that_has_them(explorer):
    values = {name: knob.high for name, knob in explorer.knobs.items()}
    assert explorer.spec("expedit", values) == "expedit(alpha=11, grid=0.95)"
    assert explorer.spec("evit", values) == "evit(keep_rate=0.98, layers=(3, 6, 9))"


@pytest.fixture
def gradio():
    return pytest.importorskip("gradio")


def test_only_this_machine_sees_the_page(gradio, monkeypatch, capsys):
    given = {}

    def launch(app, **settings):
        given.update(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(gradio.Blocks, "launch", launch)
    monkeypatch.setenv("GRADIO_SHARE", "True")
    assert main(["explore"]) == 130
    assert (given["server_name"], given["share"]) == ("127.0.0.1", False)


def test_a_picture_that_cannot_be_read_is_a_sentence(gradio, tmp_path):
    from expedit.cli.explore_page import added

    path = tmp_path / "x.png"
    path.write_text("no picture")
    with pytest.raises(gradio.Error, match=r"x\.png: .*"):
        added(str(path), [])


@pytest.mark.browser
def test_from_an_upload_to_a_moved_slider(gradio, explorer, browser, monkeypatch):
    from expedit.cli.explore_page import page, serve

    said, fetched = [], []
    monkeypatch.setattr("expedit.comparison.explorer.ROUNDS", 1)
    app = page(explorer, [("drawn", picture(64, 64))])
    tab = browser.new_page(viewport={"width": 390, "height": 900})
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: fetched.append(request.url))
    try:
        address = serve(app, "127.0.0.1", None)
        tab.goto(address)
        shown = "() => [...document.querySelectorAll('#compared img')].map((img) => img.src).join(' ')"
        tab.wait_for_selector("#facts strong")
        assert tab.evaluate("document.documentElement.scrollWidth") == 390
        first, file = tab.evaluate(shown), io.BytesIO()
        Image.fromarray(picture(96, 80, seed=1)).save(file, "PNG")
        upload = {"name": "mine.png", "mimeType": "image/png", "buffer": file.getvalue()}
        tab.locator("input[type=file]").last.set_input_files(upload)
        tab.wait_for_function(f"({shown})() !== {first!r}")
        second = tab.evaluate(shown)
        tab.locator("#alpha input[type=number]").fill("9")
        tab.locator("#alpha input[type=number]").press("Tab")
        tab.wait_for_function(f"({shown})() !== {second!r}")
        assert "expedit(alpha=9, grid=0.6)" in tab.locator("#code").inner_text()
        broken = {"name": "broken.png", "mimeType": "image/png", "buffer": b"no picture"}
        tab.locator("input[type=file]").last.set_input_files(broken)
        tab.get_by_text("broken.png").last.wait_for()
    finally:
        tab.close()
        app.close(verbose=False)
    assert not said
    assert all(url.startswith((address, "data:", "blob:")) for url in fetched)
