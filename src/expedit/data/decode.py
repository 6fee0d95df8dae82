"""Bytes of image files to arrays: photographs to RGB, label pictures to the numbers that are in them."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
LABEL_ENDINGS = (".png", ".bmp", ".tif", ".tiff")  # lossless: JPEG changes label values


def read_image(path: Path) -> np.ndarray:
    """Decode an image file to ``(H, W, 3)`` uint8 RGB.

    Raises:
        FileNotFoundError: no such file.
        ValueError: as for `decode_image`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such image file")
    return decode_image(path.read_bytes(), str(path))


def decode_image(content: bytes, name: str) -> np.ndarray:
    """An image file as ``(H, W, 3)`` uint8 RGB, turned the way its EXIF tag says; ``name`` is for messages.

    Raises:
        ValueError: not an image, damaged, or too large to be honest.
    """
    with _opened(content, name) as image:
        return to_rgb(ImageOps.exif_transpose(image))


def to_rgb(image: Image.Image) -> np.ndarray:
    """Any Pillow image as ``(H, W, 3)`` uint8 RGB."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image, dtype=np.float64)
        # 16-bit pictures come in as up to 65535; others of these modes may hold plain bytes.
        scale = 255 / 65535 if values.max(initial=0) > 255 else 1.0
        image = Image.fromarray((values * scale).clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.array(image.convert("RGB"))


def decode_indices(content: bytes, name: str) -> np.ndarray:
    """A label picture as ``(H, W)`` integers exactly as stored: palette indices are not looked up in their palette.

    Raises:
        ValueError: as for `decode_image`, or the picture has colours instead of one number per pixel.
    """
    with _opened(content, name) as image:
        mode, values = image.mode, np.array(image)
    if mode not in ("L", "P", "1", "I") and not mode.startswith("I;16"):
        raise ValueError(
            f"{name}: expected a label picture with one class number per pixel (grey or palette), got colour mode "
            f"{mode}; convert the colours to class numbers first"
        )
    return values.astype(np.uint8) if values.dtype == bool else values


def decode_rgb(content: bytes, name: str) -> np.ndarray:
    """Colours that code numbers as ``(H, W, 3)`` uint8 exactly as stored: neither turned nor blended.

    Raises:
        ValueError: as for `decode_image`, or the picture is not RGB.
    """
    with _opened(content, name) as image:
        mode, pixels = image.mode, np.array(image)
    if mode != "RGB":
        raise ValueError(f"{name}: expected three channels (RGB) that code numbers, got mode {mode}")
    return pixels


def image_size(content: bytes, name: str) -> tuple[int, int]:
    """(H, W) that `decode_image` gives, of a JPEG from its header alone; ValueError as there."""
    with _opened(content, name) as image:
        if image.format != "JPEG":  # TIFF is turned while it is loaded, PNG may say only at its end how to turn it
            image.load()
        turned = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
        width, height = image.size
    return (width, height) if turned else (height, width)


@contextmanager
def _opened(content: bytes, name: str) -> Iterator[Image.Image]:
    """The image, not decoded yet. All that Pillow throws, in the block too, is told in one sentence with the name."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
            # Pillow only warns up to twice its limit, and warnings are not made errors for one thread alone.
            if Image.MAX_IMAGE_PIXELS and width * height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError(
                    f"expected at most {Image.MAX_IMAGE_PIXELS} pixels, got {width} x {height}; "
                    "if that is right, raise PIL.Image.MAX_IMAGE_PIXELS"
                )
            yield image
    except UnidentifiedImageError:
        raise ValueError(f"{name}: expected an image, but its content is none that Pillow knows") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name}: {error}") from None
    except (OSError, SyntaxError, EOFError, ValueError, struct.error) as error:
        raise ValueError(f"{name}: the image is damaged or cut short ({error})") from None
