"""Bytes of image files to arrays: photographs to RGB, label pictures to the numbers that are in them.

What a value means follows from the format and its bit depth, never from the values that occur. Every picture is turned
as its own EXIF tag says. Of files with several pages or frames the first is read, with a Python warning.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
LABEL_ENDINGS = (".png", ".bmp", ".tif", ".tiff")  # lossless: JPEG changes label values

FORMATS = ("JPEG", "MPO", "PNG", "BMP", "DIB", "WEBP", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF")
"""Known by their content. Pillow reads more, some of it by starting other programs (EPS)."""

EXACT = ("PNG", "BMP", "DIB", "TIFF", "GIF")
"""Formats that keep the numbers of a label picture."""

MOST_BYTES = 8
"""Of a file, per pixel that it may have: four channels of 16 bits."""

BITS, PHOTOMETRIC, EXTRA_SAMPLES, SUBFILE = 258, 262, 338, 254  # tags of TIFF
WHITE_IS_ZERO = 0
ALPHA = ((1,), (2,))  # EXTRA_SAMPLES: premultiplied or not
REDUCED_OR_MASK = 0b101  # SUBFILE: pages that belong to another page
PYRAMID = 32
"""Most reduced pages that are skipped in the search for a second one."""


class _Unfit(ValueError):
    """A sound file that does not fit its purpose."""


def bound_pixels(most: int) -> None:
    """From now on pictures and frames may have at most ``most`` pixels, in the whole process.

    It is Pillow's own bound, ``Image.MAX_IMAGE_PIXELS``, without its warning: beyond it we refuse.
    """
    Image.MAX_IMAGE_PIXELS = most
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def too_many_pixels(pixels: int) -> str | None:
    """What to say of a picture with more pixels than `bound_pixels` allows (89 million unless it was called)."""
    most = Image.MAX_IMAGE_PIXELS
    if not most or pixels <= most:
        return None
    return (
        f"expected at most {most} pixels, got {pixels}; if that is right, --max-pixels {pixels} allows it (in Python: "
        "expedit.data.decode.bound_pixels)"
    )


def most_bytes() -> int:
    """The largest image file that is read, in bytes."""
    return MOST_BYTES * (Image.MAX_IMAGE_PIXELS or 1 << 40)


def read_image(path: Path) -> np.ndarray:
    """Decode an image file to ``(H, W, 3)`` uint8 RGB.

    Raises:
        FileNotFoundError: no such file, or no regular one.
        ValueError: as for `decode_image`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such image file")
    if path.stat().st_size > most_bytes():
        raise ValueError(f"{path}: expected at most {most_bytes()} bytes; --max-pixels allows more")
    return decode_image(path.read_bytes(), str(path))


def decode_image(content: bytes, name: str) -> np.ndarray:
    """An image file as ``(H, W, 3)`` uint8 RGB, turned as its EXIF tag says; ``name`` is for messages.

    Raises:
        ValueError: not an image, damaged, more pixels than `bound_pixels` allows, or values without a known range.
    """
    with _opened(content, name) as image:
        if _has_more_pages(image):
            warnings.warn(f"{name}: has several pages or frames, the first is read", stacklevel=2)
        if _marked_alpha(image) and np.asarray(image.getchannel("A")).min() < 255:
            warnings.warn(
                f"{name}: its last channel is marked as transparency and blended over white; if it is something else, "
                "such as infrared, leave it out of the file",
                stacklevel=2,
            )
        picture = _rgb(image)
        ImageOps.exif_transpose(picture, in_place=True)
        return np.array(picture)


def to_rgb(image: Image.Image) -> np.ndarray:
    """Any Pillow image as ``(H, W, 3)`` uint8 RGB, transparency over white.

    Raises:
        ValueError: floating-point pixels beyond 0..1, or 32-bit integers, which have no usual range.
    """
    return np.array(_rgb(image))


def decode_indices(content: bytes, name: str) -> np.ndarray:
    """A label picture as ``(H, W)`` integers as stored: neither looked up in a palette nor stretched to 8 bits.

    Raises:
        ValueError: as for `decode_image`, or the file has colours instead of one number per pixel, is of a format that
            changes numbers, or has several pages.
    """
    with _opened(content, name) as image:
        if image.format not in EXACT:
            raise _Unfit(f"expected a label picture in one of {', '.join(EXACT)}, got {image.format}")
        if _has_more_pages(image):
            raise _Unfit("expected one label picture, got a file with several pages or frames")
        if image.mode not in ("L", "P", "1", "I") and not image.mode.startswith("I;16"):
            raise _Unfit(
                f"expected a label picture with one class number per pixel (grey or palette), got colour mode "
                f"{image.mode}; convert the colours to class numbers first"
            )
        inverted = image.mode in ("1", "L") and _tag(image, PHOTOMETRIC) == WHITE_IS_ZERO
        step = _grey_step(image, content)
        ImageOps.exif_transpose(image, in_place=True)
        values = np.array(image)
    if values.dtype == bool:
        return (values ^ inverted).astype(np.uint8)
    return (255 - values if inverted else values) // step


def decode_rgb(content: bytes, name: str) -> np.ndarray:
    """Colours that code numbers as ``(H, W, 3)`` uint8 as stored: not blended.

    Raises:
        ValueError: as for `decode_image`, or the picture is not RGB.
    """
    with _opened(content, name) as image:
        if image.mode != "RGB":
            raise _Unfit(f"expected three channels (RGB) that code numbers, got mode {image.mode}")
        ImageOps.exif_transpose(image, in_place=True)
        return np.array(image)


def image_size(content: bytes, name: str) -> tuple[int, int]:
    """(H, W) that `decode_image` gives, of a JPEG from its header alone; ValueError as there."""
    with _opened(content, name) as image:
        if image.format != "JPEG":  # TIFF is turned while it is loaded, PNG may say only at its end how to turn it
            image.load()
        width, height = image.size
        return (width, height) if _orientation(image) in (5, 6, 7, 8) else (height, width)


def is_turned(content: bytes, name: str) -> bool:
    """Whether an EXIF tag says that the stored pixels are to be turned or mirrored; ValueError as `decode_image`."""
    with _opened(content, name) as image:
        if image.format == "PNG":
            image.load()
        return _orientation(image) in range(2, 9)


@contextmanager
def _opened(content: bytes, name: str) -> Iterator[Any]:
    """The image, not decoded yet. Whatever Pillow raises, in the block too, becomes one sentence with the name."""
    Image.init()
    try:
        with Image.open(io.BytesIO(content), formats=[kind for kind in FORMATS if kind in Image.OPEN]) as image:
            if problem := too_many_pixels(image.width * image.height):
                raise _Unfit(problem)
            yield image
    except MemoryError:
        raise
    except _Unfit as error:
        raise ValueError(f"{name}: {error}") from None
    except UnidentifiedImageError:
        raise ValueError(f"{name}: expected an image, but its content is none of {', '.join(FORMATS)}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        stated = re.search(r"\d+", str(error))
        problem = too_many_pixels(int(stated[0]) if stated else 1 << 62)
        raise ValueError(f"{name}: {problem}") from None
    except Exception as error:  # decoders of damaged files raise whatever Python can
        raise ValueError(f"{name}: the image is damaged or cut short ({error!s:.200})") from None


def _rgb(image: Image.Image) -> Image.Image:
    """The picture in mode RGB, with the metadata of the original."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        picture = Image.fromarray(_in_8_bits(image))
    elif image.mode == "LAB":
        from PIL import ImageCms

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        picture = ImageCms.buildTransform(lab, srgb, "LAB", "RGB").apply(image)
    elif image.has_transparency_data and not (image.format == "TIFF" and not _marked_alpha(image)):
        layer = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    else:
        picture = image
    picture = picture.convert("RGB")
    picture.info = image.info
    return picture


def _in_8_bits(image: Image.Image) -> np.ndarray:
    """``(H, W)`` uint8 of 12, 16 or 32 bits."""
    if image.mode == "I" and image.format not in ("PNG", "PPM"):  # these two have 16 bits in it
        raise _Unfit("expected integers of 8, 12 or 16 bits without sign; save the picture as one of these")
    values = np.asarray(image, dtype=np.float32)
    white = 1 if image.mode == "F" else 2 ** (_tag(image, BITS, (16,))[0]) - 1
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if not 0 <= low <= high <= white:
        raise _Unfit(f"expected floating-point pixels in 0..1, got {low:g}..{high:g}; save 8 or 16 bits instead")
    if _tag(image, PHOTOMETRIC) == WHITE_IS_ZERO:
        values = white - values
    return (values * np.float32(255 / white)).round().astype(np.uint8)


def _tag(image: Image.Image, number: int, default: Any = None) -> Any:
    """A tag of a TIFF file, the default of other formats."""
    return getattr(image, "tag_v2", {}).get(number, default)


def _marked_alpha(image: Image.Image) -> bool:
    """Whether a TIFF file says that its extra channel is transparency; without a word it may be infrared."""
    return image.mode in ("LA", "La", "PA", "RGBA") and tuple(_tag(image, EXTRA_SAMPLES, ())[:1]) in ALPHA


def _grey_step(image: Image.Image, content: bytes) -> int:
    """What Pillow multiplies grey numbers of 2 and 4 bits by, to have them in 0..255."""
    bits = 8
    if image.mode == "L":
        bits = content[24] if image.format == "PNG" else _tag(image, BITS, (8,))[0]
    return 255 // (2**bits - 1) if bits in (2, 4) else 1


def _orientation(image: Image.Image) -> int:
    number: int = image.getexif().get(ExifTags.Base.Orientation, 1)
    return number


def _has_more_pages(image: Image.Image) -> bool:
    """Whether there is a second picture, besides the reduced copies and masks of the first and what phones add."""
    if image.format == "MPO" or not getattr(image, "is_animated", False):
        return False
    if image.format != "TIFF":
        return True
    try:
        for page in range(1, PYRAMID):
            image.seek(page)
            if not _tag(image, SUBFILE, 0) & REDUCED_OR_MASK:
                return True
    except EOFError:
        return False
    finally:
        image.seek(0)
    return True
