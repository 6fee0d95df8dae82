"""Any checkpoint we read to one safetensors file of ours that gives the same logits, bit for bit."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..models.mask2former import Mask2Former
from ..models.segmenter import MaskTransformer, Segmenter
from ..models.vit import Interpolation
from . import safetensors_format
from .reading import Loaded, Options
from .segmenter import WEIGHTS_NAME
from .zoo import SHIPPED, read

LIBRARY_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")
"""Where folders of transformers keep weights, in one file or several; the first that is there."""


@dataclass(frozen=True)
class Converted:
    """What became of a checkpoint.

    Attributes:
        model: the network that was written.
        target: the new file.
        loaded: what the checkpoint was, and what of it has no use.
        sha256: of the file the weights came from, or of all its parts one after the other.
    """

    model: Segmenter | Mask2Former
    target: Path
    loaded: Loaded
    sha256: str


def convert(
    source: Path,
    target: Path | None = None,
    *,
    force: bool = False,
    norm_eps: float | None = None,
    pos_embed: Interpolation | None = None,
    architecture: str | None = None,
    image_size: tuple[int, int] | None = None,
    part: str | None = None,
) -> Converted:
    """Read a checkpoint and write it as safetensors, with its protocol and origin in the metadata.

    Args:
        source: the path of a checkpoint, see ``zoo.load``.
        target: ``.safetensors`` file to write; by default in the current folder, called like the source.
        force: replace ``target`` if it exists; the source itself is never replaced.
        norm_eps, pos_embed, architecture, image_size, part: see ``zoo.load``; by default what the source says or
            stands for.

    Raises:
        FileNotFoundError: no source.
        FileExistsError: there is a target already.
        ValueError: the source is no checkpoint, or the target cannot be one.
    """
    options = Options(norm_eps, pos_embed, image_size, architecture, part)
    if not source.exists():
        raise FileNotFoundError(f"{source}: no such checkpoint")
    loaded = read(source, options)
    model, weights = loaded.model, weights_of(source)
    if not isinstance(model, (Segmenter, Mask2Former)):
        raise ValueError(f"{source}: expected a Segmenter or a Mask2Former, got a {type(model).__name__}")
    target = target or default_target(source)
    _check_target(weights, target, force)
    digest = sha256(weights)
    origin = f"{weights[0].resolve().parent.name}/{weights[0].name}"
    model.card = replace(model.card, source=f"{origin} (sha256 {digest})")
    safetensors_format.save(model, target, extra={"source": origin, "sha256": digest, "architecture": sizes(model)})
    return Converted(model, target, loaded, digest)


def default_target(source: Path) -> Path:
    """``NAME.safetensors`` in the current folder; a ``checkpoint.pth`` is called like the folder it is in."""
    path = source.resolve()
    if path.name == WEIGHTS_NAME:
        path = path.parent
    return Path((path.name if path.is_dir() else path.stem) + ".safetensors")


def _check_target(weights: Sequence[Path], target: Path, force: bool) -> None:
    if target.suffix != ".safetensors":
        raise ValueError(f"{target}: expected a name that ends in .safetensors")
    if target.is_dir():
        raise ValueError(f"{target}: expected a file to write, but this is a folder")
    if target.exists() and any(file.exists() and target.samefile(file) for file in weights):
        raise ValueError(f"{target}: this is the checkpoint itself, which is never overwritten; give another -o")
    if target.exists() and not force:
        raise FileExistsError(f"{target}: exists already; give another name, or --force to replace it")


def weights_of(source: Path) -> list[Path]:
    """The files of a checkpoint that hold its weights, one unless transformers cut it into parts."""
    for pattern in LIBRARY_WEIGHTS:
        if (source / "config.json").is_file() and (parts := sorted(source.glob(pattern))):
            return parts
    return [source / WEIGHTS_NAME] if source.is_dir() else [source]


def fingerprint(name: str) -> str:
    """What tells the weights called ``name`` from others: their digest, or the name itself if it is one of the hub."""
    path = SHIPPED.get(name, Path(name))
    return sha256(weights_of(path)) if path.exists() else name


def sha256(paths: Sequence[Path]) -> str:
    """Hexadecimal digest of a file, or of several one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def sizes(model: Segmenter | Mask2Former) -> str:
    """Sizes of the network in one line."""
    classes = len(model.card.classes)
    if isinstance(model, Mask2Former):
        net, depths = model.architecture, "/".join(map(str, model.architecture.depths))
        return (
            f"{type(model).__name__} Swin width={net.embed} depths={depths} window={net.window}, queries={net.queries},"
            f" decoder layers={net.decoder_layers}, classes={classes}, task={model.card.task}"
        )
    encoder, decoder = model.encoder, model.decoder
    head = "linear decoder"
    if isinstance(decoder, MaskTransformer):
        head = f"mask transformer layers={len(decoder.blocks)} heads={decoder.heads}"
    return (
        f"Segmenter ViT width={encoder.width} depth={len(encoder.blocks)} heads={encoder.heads} patch={encoder.patch}"
        f" positions={encoder.nominal.h}x{encoder.nominal.w}, {head}, classes={classes}"
    )
