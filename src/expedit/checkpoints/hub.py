"""Networks of transformers, from a folder that the library wrote or from a hub name, with their processors.

The library alone reads and fetches, and only with its own classes: code that comes with a checkpoint is never run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from ..data.class_list import Color
from ..data.known_classes import known_classes
from ..models.card import Card, Output, Task, distinct_colors
from ..models.families import Family, family_of
from ..models.pretrained import Pretrained
from ..models.processing import PLAIN, PlainProcessor

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""``owner/name``."""

OUTPUTS: Mapping[Task, Output] = {"depth": "depth", "features": "features"}
"""What a network returns, where it is neither logits of its pixels nor of its queries."""

UNNAMED = re.compile(r"LABEL_(\d+)")
"""What the library calls classes without a name."""

OLD_PROCESSOR = re.compile(r"(FeatureExtractor|ImageProcessor)(Fast|Pil)?$")
"""Ends of the names that one processor had over the years."""

LONGEST = 400
"""Letters of a message of the library that are passed on."""


def transformers() -> Any:
    """The library, imported when it is first needed; ImportError says how to get it."""
    try:
        import transformers as library
    except ImportError as error:
        raise ImportError(f"networks of transformers need the library: pip install 'expedit[hf]' ({error})") from None
    return library


def load_pretrained(
    source: str | Path,
    revision: str | None = None,
    task: Task | None = None,
    size: int | tuple[int, int] | None = None,
) -> Pretrained:
    """A network with its processor, in fp32 and evaluation mode; arguments and errors as for ``zoo.load``."""
    library = transformers()
    with _quiet(library, local=Path(source).is_dir()):
        config = read_config(source, revision)
        kind = _class(library, config)
        sees = "pixel_values" in kind.main_input_name
        family = family_of(kind.__name__, str(config.get("model_type")), sees)
        described = _described(library, source, revision)
        processor = processor_of(library, described, family)
        chosen = _task(task, family, described, Path(source).name)
        reader = kind if family.reads is None else getattr(library, family.reads)
        network = whole(reader, source, revision=revision, **(family.settings or {}))
        words = _words(library, source, revision, network.config, chosen) if family.asks else {}
        model = Pretrained(network, processor, family, _card(network, processor, family, chosen, source), words)
        return model.eval() if size is None else sized(model, size)


def read_config(source: str | Path, revision: str | None = None) -> dict[str, Any]:
    """What ``config.json`` says, as plain values."""
    if revision is not None and Path(source).is_dir():
        raise ValueError("a folder has no revisions; give revision= with a hub name")
    config: dict[str, Any] = transformers().PreTrainedConfig.get_config_dict(source, revision=revision)[0]
    return config


@contextmanager
def sentence(source: str | Path) -> Iterator[None]:
    """Whatever the library throws at a checkpoint is one sentence with its name."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:  # of its many kinds some are documented nowhere
        message = " ".join(str(error).split())
        if "out of memory" in message or "can't allocate" in message or message.startswith(str(source)):
            raise
        hint = "" if Path(source).exists() else f" (there is no folder {str(source)!r} either)"
        raise ValueError(f"{source}: {message[:LONGEST]}{hint}") from error


@contextmanager
def _quiet(library: Any, local: bool) -> Iterator[None]:
    """No report of tensors that a network does not use; no bars, unless something is fetched."""
    verbosity, bars = library.logging.get_verbosity(), library.logging.is_progress_bar_enabled()
    library.logging.set_verbosity_error()
    if local:
        library.logging.disable_progress_bar()
    try:
        yield
    finally:
        library.logging.set_verbosity(verbosity)
        if bars:
            library.logging.enable_progress_bar()


def _class(library: Any, config: Mapping[str, Any]) -> Any:
    """The library's class that wrote the checkpoint; ValueError if the library has none."""
    names = config.get("architectures") or []
    if not names:
        raise ValueError(
            "config.json names no class (architectures), as save_pretrained of a network writes it; without it the "
            "network is unknown"
        )
    name = str(names[0])
    kind = getattr(library, name, None)
    if isinstance(kind, type) and issubclass(kind, library.PreTrainedModel):
        return kind
    if config.get("auto_map"):
        raise ValueError(
            f"{name} is code that comes with the checkpoint, which expedit never runs; expected a class of transformers"
        )
    raise ValueError(f"{name} is no network of transformers {library.__version__}")


def whole(kind: Any, source: str | Path, may_lack: tuple[str, ...] = (), **settings: Any) -> Any:
    """The library's network in fp32 with all weights; left alone, the library fills what is absent with noise.

    Args:
        kind: the class; ``settings`` are those of its ``from_pretrained``.
        source: folder or hub name.
        may_lack: how the names of tensors start that inference never reads.
    """
    try:
        network, info = kind.from_pretrained(source, dtype=torch.float32, output_loading_info=True, **settings)
    except (RuntimeError, OSError, SafetensorError) as error:
        raise ValueError(f"the weights cannot be read: {' '.join(str(error).split())}") from None
    if absent := sorted(name for name in info["missing_keys"] if not name.startswith(may_lack)):
        some = ", ".join(absent[:5])
        raise ValueError(f"expected weights for the whole network, {len(absent)} are missing: {some}, …")
    return network


def _described(library: Any, source: str | Path, revision: str | None) -> dict[str, Any]:
    """What ``preprocessor_config.json`` says, or the part on images of ``processor_config.json``."""
    try:
        described: dict[str, Any] = library.BaseImageProcessor.get_image_processor_dict(source, revision=revision)[0]
    except OSError as error:
        cause = "" if Path(source).is_dir() else f" ({str(error).splitlines()[0]})"
        raise ValueError(
            f"no preprocessor_config.json, which says how images are prepared{cause}: save the processor there too "
            "(AutoImageProcessor.from_pretrained(NAME).save_pretrained(FOLDER)); a network alone is for "
            "expedit.accelerate"
        ) from None
    return described


def processor_of(library: Any, described: Mapping[str, Any], family: Family) -> Any:
    """The processor with these settings, the library's own where it can be built."""
    named = described.get("image_processor_type") or described.get("feature_extractor_type") or family.processor
    name = OLD_PROCESSOR.sub("ImageProcessor", str(named))
    if not family.output and name != family.processor:
        raise ValueError(f"expected a {family.processor}, which reads {family.title}, got {name}")
    kind = getattr(library, name, None)
    if isinstance(kind, type) and issubclass(kind, library.BaseImageProcessor):
        made: Any = kind
        return made.from_dict({**described, **(OFFLINE if family.asks else {})})
    if name in (*PLAIN, PlainProcessor.__name__):
        return PlainProcessor.of(described)
    raise ValueError(f"its images are prepared by {name}, which is not there: it may need torchvision")


OFFLINE = {"class_info_file": "", "repo_path": None}
"""Settings of OneFormer's processor with which it fetches no list of classes, for training, from somewhere else."""


def _words(library: Any, source: str | Path, revision: str | None, config: Any, task: Task) -> dict[str, Tensor]:
    """The task in words, as OneFormer takes it."""
    tokenizer = library.CLIPTokenizer.from_pretrained(source, revision=revision)
    words = tokenizer(
        [f"the task is {task}"],
        padding="max_length",
        max_length=config.task_seq_len,
        truncation=True,
        return_tensors="pt",
    )
    return {"task_inputs": words["input_ids"] * words["attention_mask"]}


def _task(given: Task | None, family: Family, described: Mapping[str, Any], name: str) -> Task:
    """The task asked for, or what the processor, the name, or the family says."""
    if given is not None:
        if given not in family.tasks:
            raise ValueError(f"task: of {family.title} there is {', '.join(family.tasks)}, got {given!r}")
        return given
    if described.get("do_split_image"):
        return "semantic"
    named = [task for task in family.tasks if task in name.lower()]
    return named[0] if len(named) == 1 else family.tasks[0]


def _card(network: Any, processor: Any, family: Family, task: Task, source: str | Path) -> Card:
    """Classes, palette and statistics, as the configuration and the processor say them."""
    scale = 1 / processor.rescale_factor
    mean, std = ([scale * float(v) for v in values] for values in (processor.image_mean, processor.image_std))
    kind = "metric" if getattr(network.config, "depth_estimation_type", None) == "metric" else family.depth
    names, palette, things = _classes(network.config) if task not in OUTPUTS else ((), (), ())
    return Card(
        task,
        names,
        palette,
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        things=things,
        source=str(source),
        output=OUTPUTS.get(task, "pixels" if family.output else "queries"),
        depth=kind,
    )


def _classes(config: Any) -> tuple[tuple[str, ...], tuple[Color, ...], tuple[int, ...]]:
    """Names, colours and things by class index; those of a published list where the names are its own."""
    labels = [str(config.id2label[index]) for index in sorted(config.id2label)]
    names = tuple(UNNAMED.sub(r"class \1", name) for name in labels)
    if listed := known_classes(names):
        return listed.names, listed.palette, listed.things
    return names, distinct_colors(len(names)), tuple(range(len(names)))


def sized(model: Pretrained, size: int | tuple[int, int]) -> Pretrained:
    """``model`` with the whole image at another size; see ``load_pretrained``."""
    if model.card.task != "features":
        raise ValueError(f"size: {model.family.title} takes images as its processor prepares them; leave it")
    patch, old = max(model.patch), model.processor
    height, width = (size, None) if isinstance(size, int) else size
    if min(height, width or height) < patch:
        raise ValueError(f"size: expected at least one patch of {patch} pixels, got {size}")
    model.processor = PlainProcessor(
        height,
        width,
        multiple=patch,
        image_mean=tuple(old.image_mean),
        image_std=tuple(old.image_std),
        rescale_factor=old.rescale_factor,
        mode="bicubic",
    )
    return model
