"""The page of ``expedit explore``, in the words of Gradio."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import gradio as gr

from ..comparison.explorer import Explorer, Look, Pictures
from ..comparison.gallery import small
from ..data.decode import read_image
from ..methods import METHODS
from .console import sentence

STYLE = "footer {display: none !important} .gradio-container {max-width: 1500px !important}"

WRONG = (ValueError, OSError, ImportError, RuntimeError, MemoryError)
"""What a picture or a setting can cause; the page shows a sentence."""


def page(explorer: Explorer, pictures: Pictures) -> gr.Blocks:
    """Pictures and settings at the left, what becomes of them at the right."""
    knobs = list(explorer.knobs)
    app: gr.Blocks = gr.Blocks(title="expedit explore", analytics_enabled=False)
    with app:
        kept, chosen = gr.State(pictures), gr.State(0)
        gr.Markdown(f"## {Path(explorer.source).name}: dense and reduced")
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                shelf = gr.Gallery(_shelf(pictures), label="Pictures", columns=3, height=220, allow_preview=False)
                upload = gr.UploadButton("Add a picture")
                method, *sliders = _settings(explorer)
            with gr.Column(scale=3, min_width=340):
                outputs = _results()

        def show(pictures: Pictures, index: int, name: str, *values: float) -> list[Any]:
            with _sentences():
                spec = explorer.spec(name, dict(zip(knobs, values, strict=True)))
                return shown(explorer.look(pictures[index][1], spec), spec)

        changes = [method.change, *(slider.change for slider in sliders), app.load, chosen.change]
        how: Any = {"concurrency_id": "model", "trigger_mode": "always_last", "show_progress": "minimal"}
        gr.on(changes, show, [kept, chosen, method, *sliders], outputs, **how)
        method.change(lambda name: [gr.Slider(visible=_has(name, knob)) for knob in knobs], method, sliders)
        upload.upload(added, [upload, kept], [kept, shelf, chosen])
        shelf.select(_index, None, chosen)
    return app


def _settings(explorer: Explorer) -> list[Any]:
    """The choice of the method, then a slider for every setting, seen where the method has it."""
    first = "expedit"
    method = gr.Dropdown(list(METHODS), value=first, label="Method")
    sliders = [
        gr.Slider(
            knob.low,
            knob.high,
            knob.start,
            step=knob.step,
            label=f"{name}: {knob.meaning}",
            elem_id=name,
            visible=_has(first, name),
        )
        for name, knob in explorer.knobs.items()
    ]
    return [method, *sliders]


def _results() -> list[Any]:
    """Both predictions under a slider, figures, difference and clusters, code."""
    compared = gr.ImageSlider(label="dense | reduced", interactive=False, elem_id="compared")
    facts = gr.Markdown(elem_id="facts")
    with gr.Row():
        more = [gr.Image(interactive=False, buttons=["download", "fullscreen"]) for _ in range(2)]
    code = gr.Code(language="python", label="The same in Python", elem_id="code", interactive=False)
    return [compared, facts, *more, code]


def serve(app: gr.Blocks, host: str, port: int | None) -> str:
    """The address at which the page is served from now on; fonts are the reader's own, so that nothing is fetched."""
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    _, address, _ = app.launch(
        server_name=host,
        server_port=port,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        max_file_size="200mb",
        theme=theme,
        css=STYLE,
    )
    return str(address)


def added(file: str, pictures: Pictures) -> tuple[Pictures, list[Any], int]:
    """The pictures with an uploaded one at the end, which is chosen; a sentence where it cannot be read."""
    with _sentences():
        more = [*pictures, (Path(file).name, read_image(Path(file)))]
    return more, _shelf(more), len(more) - 1


def shown(look: Look, spec: str) -> list[Any]:
    """Values of the components, in their order."""
    pictures = [gr.Image(picture, label=caption, visible=True) for caption, picture in look.pictures]
    pictures += [gr.Image(visible=False)] * (2 - len(pictures))
    facts = f"**{look.ms:.0f} ms** against {look.dense_ms:.0f} ms dense: **{look.dense_ms / look.ms:.2f} ×** · `{spec}`"
    return [(look.dense, look.reduced), facts, *pictures, look.code]


class _sentences:
    """What goes wrong inside is shown on the page as one sentence."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, WRONG):
            raise gr.Error(sentence(error), print_exception=False) from None


def _has(method: str, setting: str) -> bool:
    return setting in {field.name for field in fields(METHODS[method])}  # type: ignore[arg-type]


def _shelf(pictures: Pictures) -> list[Any]:
    return [(small(image), name) for name, image in pictures]


def _index(event: gr.SelectData) -> int:
    return int(event.index)
