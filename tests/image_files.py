"""Image files that no library writes: TIFF and PNG of any depth, with any tags."""

import io
import struct
import zlib

import numpy as np


def packed(values, bits, big=False):
    """Rows of samples of 1 to 32 bits, each row ending on a byte; floats as they are."""
    values = np.asarray(values)
    if values.dtype.kind == "f" or bits in (16, 32):
        kind = {"f": "f4", "u": f"u{bits // 8}", "i": f"i{bits // 8}"}[values.dtype.kind]
        return values.astype((">" if big else "<") + kind).tobytes()
    rows = ["".join(f"{value:0{bits}b}" for value in row.ravel()) for row in values]
    rows = [row + "0" * (-len(row) % 8) for row in rows]
    return b"".join(int(row, 2).to_bytes(len(row) // 8, "big") for row in rows)


def tiff(values, bits=8, photometric=1, kind=1, extra=None, big=False, **more):
    """An uncompressed TIFF of the values ``(H, W)`` or ``(H, W, C)``; ``more``: further tags by number."""
    data, channels = packed(values, bits, big), 1 if np.ndim(values) == 2 else np.shape(values)[2]
    height, width = np.shape(values)[:2]
    tags = {256: [width], 257: [height], 258: [bits] * channels, 259: [1], 262: [photometric], 273: [8],
            277: [channels], 278: [height], 279: [len(data)], 339: [kind] * channels}  # fmt: skip
    tags |= {} if extra is None else {338: extra}
    tags |= {int(number[1:]): content for number, content in more.items()}
    end = ">" if big else "<"
    data += b"\0" * (len(data) % 2)
    place = 8 + len(data)
    entries, spill = b"", b""
    for number, content in sorted(tags.items()):
        raw = struct.pack(f"{end}{len(content)}H", *content)
        if len(raw) > 4:
            spill, raw = spill + raw, struct.pack(f"{end}I", place + 6 + 12 * len(tags) + len(spill))
        entries += struct.pack(f"{end}HHI", number, 3, len(content)) + raw.ljust(4, b"\0")
    head = (b"MM\0*" if big else b"II*\0") + struct.pack(f"{end}I", place)
    return head + data + struct.pack(f"{end}H", len(tags)) + entries + b"\0\0\0\0" + spill


def png(values, bits=8, colour=0, palette=None, clear=None):
    """A PNG of the values; ``colour`` 0 is grey, 2 RGB, 3 a palette, 4 and 6 with transparency."""
    height, width = np.shape(values)[:2]
    rows = packed(values, bits, big=True)
    step = len(rows) // height
    lines = b"".join(b"\0" + rows[at : at + step] for at in range(0, len(rows), step))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))]
    chunks += [] if palette is None else [(b"PLTE", bytes(palette))]
    chunks += [] if clear is None else [(b"tRNS", bytes(clear))]
    chunks += [(b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def saved(image, kind, **settings):
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()
