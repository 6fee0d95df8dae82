"""Networks of transformers and timm that keep a list of blocks and call one after the other: one adapter and a table.

A row names where classes keep their blocks and their patch convolution, and what kind of place their tokens are at.
Names are those of transformers 5.17 to 5.23 and timm 1.0.31.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from torch import nn

from ..core import Anatomy, Grid, Guide, Plan
from .base import WholeMaps, kept_lattice
from .driven import DrivenBlocks, Seat
from .eomt import unmask
from .forms import part, parts_of
from .notes import NotedPatches, Notes, SmallerImage
from .places import Biased, FixedLattice, Plain, RotaryWindows, SinesFirst, StagedWindows, Windowed
from .sizes import heads_of, nominal_of, pair, width_of
from .taps import taps_of

ANY = Grid(64, 64)
"""A lattice that is larger than any grid of clusters one would ask for: images may be of any size."""


def _registers(host: Any) -> int:
    """A class token and the registers."""
    registers: int = getattr(host.config, "num_register_tokens", 0)
    return 1 + registers


def _nothing(host: Any) -> int:
    return 0


@dataclass(frozen=True)
class Host(WholeMaps):
    """Adapter of one class.

    Attributes:
        blocks: path of the block list inside the host.
        patches: path of the patch convolution; ``None`` where nobody needs it: the place knows the lattice by itself.
        place: what kind of place the tokens are at.
        prefix: tokens before those of the image.
        class_token: whether the first of them is one whose attention says what matters.
        images: paths of the modules inside the host that are given the image; none where a smaller one does not fit.
        sums: whether tokens are patches plus positions, so that those of windows of patches can be made.
    """

    blocks: str
    patches: str | None = None
    place: type[Plain] = Plain
    prefix: Callable[[Any], int] = _registers
    class_token: bool = True
    images: tuple[str, ...] = ()
    sums: bool = True

    @property
    def guides(self) -> frozenset[Guide]:
        """See ``Adapter``; what blocks on a lattice attend to is not read."""
        if self.place.reason:
            return frozenset(("tokens",))
        looks: tuple[Guide, ...] = ("cls_attention", "significance") if self.class_token else ()
        patches: tuple[Guide, ...] = ("coarse_patches",) if self.sums and self.patches is not None else ()
        return frozenset(("tokens", "keys", *looks, *patches))

    def anatomy(self, backbone: Any) -> Anatomy:
        """See ``Adapter``."""
        heads, width = heads_of(backbone), width_of(backbone)
        return Anatomy(
            depth=len(part(backbone, self.blocks)),
            prefix=self.prefix(backbone),
            heads=heads,
            head_dim=width // heads,
            grid=nominal_of(backbone),
            guides=self.guides if _unnormed(backbone) else self.guides - {"coarse_patches"},
            sized=not self.place.reason,
            resizes=self._resizes(backbone),
        )

    def install(self, model: nn.Module, path: str, plan: Plan, *, taps: Iterable[int] = ()) -> None:
        """Drive the blocks of the host at ``path`` of ``model`` with ``plan``.

        Args:
            taps: 0-based blocks whose output is read at full size, beside those that the model declares: for code that
                collects what blocks return, such as timm's ``forward_intermediates``.
        """
        host: Any = model.get_submodule(path)
        blocks, place = part(host, self.blocks), self.place(host, self.prefix(host))
        plan = self._fitted(host, plan, place)
        read, notes = taps_of(model, path), Notes()
        if read.reader is not None:
            read.reader.register_forward_pre_hook(notes.hear, with_kwargs=True)
        if self.patches is not None:
            coarse = plan.guide_for(0) == "coarse_patches"
            _put(host, self.patches, NotedPatches.around(part(host, self.patches), notes, coarse))
        self._shrink(host, plan.scale, notes)
        unmask(host)
        children = list(blocks.children())
        seat = Seat(
            place=place,
            parts=tuple(parts_of(block) if place.drives(block) else None for block in children),
            heads=heads_of(host),
            names=DrivenBlocks.parameters_of(children[0]),
            notes=notes,
            taps=frozenset((*read.blocks, *_checked(taps, len(children)))),
            declared=read.declared,
        )
        _put(host, self.blocks, DrivenBlocks(blocks, seat))
        self.exchange(host, plan)

    def _shrink(self, host: Any, scale: float, notes: Notes) -> None:
        """Let the embedding see a smaller image; ValueError where its positions do not follow."""
        if scale == 1:
            return
        if not self._resizes(host):
            reason = self.place.reason or f"{type(host).__name__} takes images of one size"
            raise ValueError(f"{reason}, so that it cannot be given a smaller image; use a method without shrink")
        smaller = SmallerImage(scale, self._patch(host), notes)
        for path in self.images:
            smaller.put(part(host, path))

    def _resizes(self, host: Any) -> bool:
        """Whether its positions follow images of another size."""
        return bool(self.images) and getattr(host, "dynamic_img_size", True)

    def plan(self, backbone: Any) -> Plan:
        """The cuts at work in it."""
        blocks = part(backbone, self.blocks)
        return blocks.plan if isinstance(blocks, DrivenBlocks) else Plan()

    def branches(self, backbone: Any) -> list[nn.Module]:
        """Attention and MLP of every driven block."""
        blocks = part(backbone, self.blocks)
        own = blocks.blocks() if isinstance(blocks, DrivenBlocks) else blocks
        forms = [(block, parts_of(block).form) for block in own]
        return [part(block, name) for block, form in forms for name in (form.attention, form.mlp[0])]

    def seat(self, backbone: Any) -> Any:
        """The driven block list."""
        return part(backbone, self.blocks)

    def lattice(self, backbone: Any, image: Grid) -> Grid:
        """Whole patches only, as the libraries' convolutions make them."""
        patch = self._patch(backbone)
        return Grid(image.h // patch.h, image.w // patch.w)

    def _patch(self, host: Any) -> Grid:
        """(height, width) of a patch in pixels."""
        return Grid(*pair(getattr(getattr(host, "config", None), "patch_size", None) or host.patch_embed.patch_size))

    def check(self, plan: Plan, lattice: Grid) -> None:
        """See ``Adapter``."""
        reason = self.place.reason
        if plan.scale != 1 and not self.images:
            raise ValueError(reason or "such networks take images of one size")
        if not reason:
            return
        if plan.around or plan.attend:
            raise ValueError(
                f"{reason}: cuts around a single branch (dense ToMe) and attention kernels (ACT) do not follow; "
                "use a method that keeps tokens on a lattice, such as Expedit or Pool"
            )
        for span in plan.spans.values():
            kept_lattice(span.reducer, lattice, reason)

    def _fitted(self, host: Any, plan: Plan, place: Plain) -> Plan:
        """``plan`` as this host can run it; ValueError where it cannot."""
        nominal = nominal_of(host) or ANY
        lattice = Grid(max(nominal.h, ANY.h), max(nominal.w, ANY.w))
        self.check(replace(plan, scale=1), lattice)  # whether its images may be smaller is asked of the host itself
        return _in_stages(host, plan, place) if self.place is StagedWindows else plan


def _unnormed(host: Any) -> bool:
    """Whether nothing but positions comes between the patches and the first block of timm's networks."""
    return all(isinstance(part(host, name), nn.Identity | None) for name in ("norm_pre", "patch_embed.norm"))


def _in_stages(host: Any, plan: Plan, place: Plain) -> Plan:
    """Spans end with the stage that they start in; ValueError where a block of that stretch changes the lattice."""
    ends = [end + 1 for end in host.stage_ends]
    spans = {}
    for start, span in plan.spans.items():
        block = start // 2
        end = next(end for end in ends if block < end)
        if not all(place.drives(part(host, "blocks")[index]) for index in range(block, end)):
            raise ValueError(
                f"block {block} begins a stage with another lattice: expected alpha after the first block of a stage, "
                f"of which the last blocks are {', '.join(str(end - 1) for end in ends)}"
            )
        spans[start] = replace(span, stop=min(span.stop, 2 * end))
    return replace(plan, spans=spans)


def _checked(taps: Iterable[int], depth: int) -> list[int]:
    taps = list(taps)
    if wrong := [tap for tap in taps if not isinstance(tap, int) or not 0 <= tap < depth]:
        raise ValueError(f"taps: expected blocks in 0..{depth - 1}, got {wrong[0]!r}")
    return taps


def _put(host: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(part(host, parent) if parent else host, name, module)


CONVOLUTION = "embeddings.patch_embeddings.projection"
EMBEDDINGS = ("embeddings",)
EMBEDDING = "embeddings.patch_embedding"
QUERIES = attrgetter("embeddings.num_prefix_tokens")
TIMM = attrgetter("num_prefix_tokens")

ROWS: tuple[tuple[Host, tuple[str, ...]], ...] = (
    (
        Host("encoder.layer", CONVOLUTION, images=EMBEDDINGS),
        (
            "transformers.models.dinov2.modeling_dinov2.Dinov2Model",
            "transformers.models.dinov2.modeling_dinov2.Dinov2Backbone",
            "transformers.models.dinov2_with_registers.modeling_dinov2_with_registers.Dinov2WithRegistersModel",
            "transformers.models.dinov2_with_registers.modeling_dinov2_with_registers.Dinov2WithRegistersBackbone",
            "transformers.models.dpt.modeling_dpt.DPTModel",
        ),
    ),
    (
        Host("model.layer", "embeddings.patch_embeddings", images=(*EMBEDDINGS, "rope_embeddings")),
        (
            "transformers.models.dinov3_vit.modeling_dinov3_vit.DINOv3ViTModel",
            "transformers.models.dinov3_vit.modeling_dinov3_vit.DINOv3ViTBackbone",
            "transformers.models.sapiens2.modeling_sapiens2.Sapiens2Model",
            "transformers.models.sapiens2.modeling_sapiens2.Sapiens2Backbone",
        ),
    ),
    (Host("layers", CONVOLUTION, images=EMBEDDINGS), ("transformers.models.vit.modeling_vit.ViTModel",)),
    (
        Host("layers", CONVOLUTION, prefix=attrgetter("config.n_cls_tokens"), images=EMBEDDINGS),
        ("transformers.models.pixio.modeling_pixio.PixioModel",),
    ),
    (
        Host("encoder.layer", CONVOLUTION, prefix=_nothing, class_token=False, sums=False),  # patches overlap the edge
        ("transformers.models.vitpose_backbone.modeling_vitpose_backbone.VitPoseBackbone",),
    ),
    (
        Host("encoder.layers", EMBEDDING, images=EMBEDDINGS, sums=False),  # a norm comes before the first block
        (
            "transformers.models.clip.modeling_clip.CLIPVisionModel",
            "transformers.models.clipseg.modeling_clipseg.CLIPSegVisionModel",
        ),
    ),
    (
        Host("encoder.layers", EMBEDDING, prefix=_nothing, class_token=False, images=EMBEDDINGS),
        ("transformers.models.siglip.modeling_siglip.SiglipVisionModel",),
    ),
    (
        Host("layers", CONVOLUTION, FixedLattice, QUERIES),
        ("transformers.models.eomt.modeling_eomt.EomtForUniversalSegmentation",),
    ),
    (
        Host("layers", "embeddings.patch_embeddings", FixedLattice, QUERIES),
        ("transformers.models.eomt_dinov3.modeling_eomt_dinov3.EomtDinov3ForUniversalSegmentation",),
    ),
    (  # two stretches of blocks: what the class token attended to in the first is unknown in the second
        Host("layers", None, FixedLattice, QUERIES, class_token=False),
        ("transformers.models.videomt.modeling_videomt.VideomtForUniversalSegmentation",),
    ),
    (Host("layers", None, Biased), ("transformers.models.beit.modeling_beit.BeitModel",)),
    (
        Host("layers", None, Windowed, _nothing, class_token=False),
        (
            "transformers.models.sam.modeling_sam.SamVisionEncoder",
            "transformers.models.sam_hq.modeling_sam_hq.SamHQVisionEncoder",
        ),
    ),
    (
        Host("layers", None, RotaryWindows, _nothing, class_token=False),
        ("transformers.models.sam3.modeling_sam3.Sam3ViTModel",),
    ),
    (
        Host("blocks", None, StagedWindows, _nothing, class_token=False),
        ("transformers.models.sam2.modeling_sam2.Sam2HieraDetModel",),
    ),
    (
        Host("blocks", "patch_embed.proj", prefix=TIMM, images=("patch_embed",)),
        ("timm.models.vision_transformer.VisionTransformer",),
    ),
    (Host("blocks", "patch_embed.proj", SinesFirst, TIMM, images=("patch_embed",)), ("timm.models.eva.Eva",)),
)
"""Hosts and the full names of their classes."""

HOSTS: dict[str, Host] = {name: host for host, names in ROWS for name in names}
"""Adapter by the full name of the host's class."""
