"""Any checkpoint we read to one safetensors file of ours that gives the same logits, bit for bit."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from . import files
from .official import WEIGHTS_NAME, read_official
from .segmenter import Segmenter
from .vit import Interpolation
from .zoo import load


@dataclass(frozen=True)
class Converted:
    """What became of a checkpoint.

    Attributes:
        model: the network that was written.
        target: the new file.
        unused: keys of the checkpoint that have no use in the network.
        sha256: of the file the weights came from.
    """

    model: Segmenter
    target: Path
    unused: tuple[str, ...]
    sha256: str


def convert(
    source: Path,
    target: Path | None = None,
    *,
    force: bool = False,
    norm_eps: float | None = None,
    pos_embed: Interpolation | None = None,
) -> Converted:
    """Read a Segmenter checkpoint and write it as safetensors, with its protocol and origin in the metadata.

    Args:
        source: an official folder, a ``.pth`` with official or mmsegmentation keys, or a safetensors file.
        target: ``.safetensors`` file to write; by default in the current folder, called like the source.
        force: replace ``target`` if it exists; the source itself is never replaced.
        norm_eps, pos_embed: see ``official.read_official``; by default what the source says or stands for.

    Raises:
        FileNotFoundError: no source.
        FileExistsError: there is a target already.
        ValueError: the source is no Segmenter checkpoint, or the target cannot be one.
    """
    if not source.exists():
        raise FileNotFoundError(f"{source}: no such checkpoint")
    weights = weights_of(source)
    target = target or default_target(source)
    _check_target(weights, target, force)
    if source.is_dir() or source.suffix == ".pth":
        model, unused = read_official(source, norm_eps, pos_embed)
    else:
        model, unused = _loaded(source, norm_eps, pos_embed), ()
    digest = sha256(weights)
    origin = f"{weights.resolve().parent.name}/{weights.name}"
    model.card = replace(model.card, source=f"{origin} (sha256 {digest})")
    extra = {"source": origin, "sha256": digest, "architecture": architecture(model)}
    files.save(model, target, extra=extra)
    return Converted(model, target, unused, digest)


def _loaded(source: Path, norm_eps: float | None, pos_embed: Interpolation | None) -> Segmenter:
    model = load(source, norm_eps=norm_eps, pos_embed=pos_embed)
    if not isinstance(model, Segmenter):
        raise ValueError(f"{source}: expected a Segmenter checkpoint, got a {type(model).__name__}")
    return model


def default_target(source: Path) -> Path:
    """``NAME.safetensors`` in the current folder; a ``checkpoint.pth`` is called like the folder it is in."""
    path = source.resolve()
    if path.name == WEIGHTS_NAME:
        path = path.parent
    return Path((path.name if path.is_dir() else path.stem) + ".safetensors")


def _check_target(weights: Path, target: Path, force: bool) -> None:
    if target.suffix != ".safetensors":
        raise ValueError(f"{target}: expected a name that ends in .safetensors")
    if target.is_dir():
        raise ValueError(f"{target}: expected a file to write, but this is a folder")
    if target.exists() and weights.exists() and target.samefile(weights):
        raise ValueError(f"{target}: this is the checkpoint itself, which is never overwritten; give another -o")
    if target.exists() and not force:
        raise FileExistsError(f"{target}: exists already; give another name, or --force to replace it")


def weights_of(source: Path) -> Path:
    """The file of a checkpoint that holds its weights."""
    return source / WEIGHTS_NAME if source.is_dir() else source


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def architecture(model: Segmenter) -> str:
    """Sizes of the network in one line."""
    encoder, decoder = model.encoder, model.decoder
    return (
        f"Segmenter ViT width={encoder.width} depth={len(encoder.blocks)} heads={encoder.heads} patch={encoder.patch}"
        f" positions={encoder.nominal.h}x{encoder.nominal.w}, mask transformer layers={len(decoder.blocks)}"
        f" heads={decoder.heads}, classes={len(model.card.classes)}"
    )
