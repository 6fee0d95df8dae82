"""Images through Ray Data: a model per actor, read, predicted and written as a stream. Needs Ray (extra ``ray``)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from .checkpoints.zoo import load
from .data.decode import decode_image
from .models.card import Card
from .predicting.batches import Seen, predictions
from .predicting.journal import Settings
from .predicting.parquet import needed, row, schema, write_shard
from .predicting.reading import Reader
from .predicting.run import Work
from .predicting.sources import Failure, Source
from .surgery import accelerate, optimized

if TYPE_CHECKING:
    import pyarrow as pa
    from ray.data import Dataset

CHUNK = 64
"""Images that go to an actor at once, of a run that has enough of them."""


class Predict:
    """A model for ``ray.data.Dataset.map_batches``: every actor loads its weights once.

    Args:
        model: what ``expedit.load`` takes, visible to every node; or a model, or a reference to one in the object store
            (``ray.put(model)``).
        method: spec string of what accelerates it.
        batch: images that run together.
        window_batch: sliding windows that run together; ``None``: as many as images.
        workers: threads that read and decode.
        dtype: "fp32", "bf16" or "fp16".
        compile: run through ``torch.compile``.
        device: ``None``: the GPU that Ray gives the actor, the processor if it gives none.
        library: further keywords of ``expedit.load``.
        options: of the method, as of ``expedit.accelerate``.
        settings: "model" and "method" for the columns of these names.

    Example of use: ``ray.data.read_images(path, include_paths=True).map_batches(Predict, concurrency=2,
    fn_constructor_kwargs={"model": "segmenter-mini"}, batch_size=32)``.
    """

    def __init__(
        self,
        model: Any,
        method: str | None = None,
        *,
        batch: int = 1,
        window_batch: int | None = None,
        workers: int = 2,
        dtype: str | None = None,
        compile: bool = False,
        device: str | None = None,
        library: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        settings: Settings | None = None,
    ) -> None:
        dense = _loaded(model, library or {}).to(device or _device())
        if method is None:
            self.model = optimized(dense, dtype=dtype, compile=compile)
        else:
            self.model = accelerate(dense, method, dtype=dtype, compile=compile, **(options or {}))
        self.batch, self.window_batch, self.workers = batch, window_batch, workers
        self.settings = settings or {"model": str(model), "method": method or "dense"}
        self._read = Reader()

    def __call__(self, batch: Mapping[str, np.ndarray]) -> pa.Table:
        """One row per image: the columns of ``predicting.parquet.schema``, and ``error``, which is null if all is well.

        Args:
            batch: "path", or "bytes" of files, or "image" ``(H, W, 3)`` uint8 RGB, the last two with or without "path".
                Further columns, all optional: "name", "member" of an archive, "batch" for images that run together,
                and "todo", false for those that only complete a batch.
        """
        items = [_Item(batch, index) for index in range(len(next(iter(batch.values()))))]
        with predictions(
            self.model, _grouped(items, self.batch), self._pixels, self.workers, self.window_batch
        ) as seen:
            rows = [self._row(one) for one in seen if one.item.get("todo", True)]
        pa = needed()
        return pa.Table.from_pylist(rows, schema=schema().append(pa.field("error", pa.string())))

    def _pixels(self, item: _Item) -> np.ndarray:
        source = item.source
        if (image := item.get("image")) is not None:
            return np.asarray(image)
        if (content := item.get("bytes")) is not None:
            return decode_image(bytes(content), source.path)
        return self._read(source)

    def _row(self, one: Seen) -> dict[str, Any]:
        source: Source = one.item.source
        try:
            prepared, prediction = one.found
            return row(source.path, source.name, prediction, prepared.size, self.settings)
        except Exception as error:  # one bad image never ends the others
            return {"path": source.path, "name": source.name, "error": str(error) or type(error).__name__}


class _Item:
    """One row of a batch."""

    def __init__(self, batch: Mapping[str, np.ndarray], index: int) -> None:
        self._batch, self._index = batch, index

    def get(self, column: str, default: Any = None) -> Any:
        """The value in a column, the default where there is none."""
        return self._batch[column][self._index] if column in self._batch else default

    @property
    def source(self) -> Source:
        """Where it is from; rows of a data set without paths go by their number."""
        place = str(self.get("path", self._index))
        member = self.get("member")
        return Source(place, str(self.get("name", place)), None if member is None else str(member))


def _grouped(items: Sequence[_Item], batch: int) -> list[list[_Item]]:
    """Items that run together: those of one number in the column "batch", or so many at a time."""
    groups: dict[Any, list[_Item]] = {}
    for index, item in enumerate(items):
        groups.setdefault(item.get("batch", index // batch), []).append(item)
    return list(groups.values())


def _loaded(model: Any, library: Mapping[str, Any]) -> nn.Module:
    if isinstance(model, (str, Path)):
        return load(model, **library)
    if isinstance(model, nn.Module):
        return model
    import ray

    stored: nn.Module = ray.get(model)
    return stored


def _device() -> str:
    import ray

    given = ray.get_runtime_context().get_accelerator_ids().get("GPU") if ray.is_initialized() else None
    return "cuda" if given and torch.cuda.is_available() else "cpu"


def dataset_of(work: Work, actors: int = 1) -> Dataset:
    """What is left to do as a data set with the columns of ``Predict``; whole batches in every block."""
    import ray

    pa, blocks, columns = needed(), [], ("path", "name", "member", "batch", "todo")
    rows: list[tuple[Any, ...]] = []
    chunk = min(CHUNK, -(-len(work.todo) // (4 * actors)))  # small runs, too, keep all actors at work
    for number, batch in enumerate(work.batches):
        rows += [(one.place, one.name, one.member, number, one.path in work.todo) for one in batch]
        if len(rows) >= chunk or number == len(work.batches) - 1:
            kinds = (pa.string(), pa.string(), pa.string(), pa.int64(), pa.bool_())
            values = [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), kinds, strict=True)]
            blocks.append(pa.table(values, names=columns))
            rows = []
    return ray.data.from_arrow(blocks)


def predict_dataset(
    dataset: Dataset,
    folder: Path,
    card: Card,
    predictor: Mapping[str, Any],
    *,
    actors: int = 1,
    gpus_per_actor: float = 0,
    rows: int = 1000,
) -> Iterator[list[Failure | str]]:
    """Stream a data set through actors into Parquet shards; memory does not grow with its length.

    Args:
        dataset: with the columns that ``Predict`` takes.
        folder: of the shards, the same for every node.
        card: of the model.
        predictor: keywords of ``Predict``, "settings" among them.
        actors: copies of the model.
        gpus_per_actor: of each; may be a part of one.
        rows: least images of a shard, but of the last.

    Yields:
        What has become of some images: the path of one that is in a shard, or why there is nothing of it.
    """
    from ray.data import ActorPoolStrategy

    predicted = dataset.map_batches(
        Predict,
        fn_constructor_kwargs=dict(predictor),
        batch_size=None,
        compute=ActorPoolStrategy(size=actors),
        num_gpus=gpus_per_actor or None,
        num_cpus=1,
    )
    facts = schema(card, predictor["settings"]).metadata
    written = predicted.map_batches(
        partial(_write, folder=str(folder), facts=facts), batch_size=rows, batch_format="pyarrow"
    )
    for batch in written.iter_batches(batch_size=None, batch_format="numpy"):
        pairs = zip(batch["path"], batch["error"], strict=True)
        yield [str(path) if error is None else Failure(str(path), str(error)) for path, error in pairs]


def _write(table: pa.Table, folder: str, facts: Mapping[bytes, bytes]) -> pa.Table:
    """One shard of the rows without an error. Its name follows from what is in it: written again it is replaced."""
    pa = needed()
    good = table.filter(pa.compute.is_null(table["error"])).drop_columns(["error"])
    if len(good):
        name = hashlib.blake2b("\n".join(good["path"].to_pylist()).encode(), digest_size=8).hexdigest()
        write_shard(Path(folder) / f"part-{name}.parquet", good.replace_schema_metadata(dict(facts)))
    return table.select(["path", "error"])
