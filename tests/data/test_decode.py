"""Pictures of every depth and mode: what a value means comes from the file, never from the values that occur."""

import io
import warnings

import numpy as np
import PIL
import pytest
from PIL import Image, TiffImagePlugin

from data_files import encoded, picture
from expedit.data import decode
from expedit.data.decode import bound_pixels, decode_image, decode_indices, decode_rgb, image_size, is_turned, to_rgb
from image_files import packed, png, saved, tiff

GREY = np.array(
    [[0, 85, 170, 255], [255, 170, 85, 0]], np.uint8
)  # what 1, 2, 4, 8, 12, 16 bits and floats can all hold
NUMBERS = np.array([[0, 1, 2, 3], [3, 2, 1, 0]])
RGB = picture(2, 4)
NEW = int(PIL.__version__.split(".")[0]) >= 13
"""Pillow reads TIFF with a second channel of no meaning, and small ones in YCbCr; older ones end in a sentence."""
DECODERS = [decode_image, decode_indices, decode_rgb, image_size]


def share(values, bits):
    """Grey as that many bits have it."""
    kind = np.uint32 if bits > 16 else np.uint16
    return np.round(values / 255.0 * (2**bits - 1)).astype(kind)


BLACK_AND_WHITE = np.where(GREY > 100, 255, 0).astype(np.uint8)
UNIT = (GREY / 255).astype(np.float32)
WIDE = RGB.astype(np.uint16) * 257
WITH_FOURTH = np.dstack([RGB, RGB[..., :1]])
ON_WHITE = Image.alpha_composite(Image.new("RGBA", (4, 2), "white"), Image.fromarray(WITH_FOURTH, "RGBA")).convert(
    "RGB"
)

GREY_FILES = {
    **{f"PNG of {bits} bits": png(share(GREY, bits), bits) for bits in (2, 4, 8, 16)},
    **{f"TIFF of {bits} bits": tiff(share(GREY, bits), bits) for bits in (2, 4, 8, 12, 16)},
    **{f"TIFF of {bits} bits, white is 0": tiff(share(255 - GREY, bits), bits, 0) for bits in (2, 4, 8, 16)},
    "TIFF of 16 bits, big-endian": tiff(share(GREY, 16), 16, big=True),
    "TIFF of floats": tiff(UNIT, 32, kind=3),
    "TIFF of floats, big-endian": tiff(UNIT, 32, kind=3, big=True),
    "TIFF of floats, white is 0": tiff(1 - UNIT, 32, 0, kind=3),
    **({"TIFF with a second channel that says nothing": tiff(np.dstack([GREY, 255 - GREY]), extra=[0])} if NEW else {}),
    "PNG with a palette": png(NUMBERS, 2, 3, [*[0] * 3, *[85] * 3, *[170] * 3, *[255] * 3]),
    "PGM of 16 bits": b"P5 4 2 65535\n" + packed(share(GREY, 16), 16, big=True),
    "JPEG 2000 of 16 bits": saved(Image.fromarray(share(GREY, 16)), "JPEG2000"),
    "WebP": saved(Image.fromarray(GREY).convert("RGB"), "WEBP", lossless=True),
}


@pytest.mark.parametrize("name", GREY_FILES)
def test_grey_pictures_of_every_depth_are_as_their_8_bit_twin(name):
    expected = np.repeat(NUMBERS[..., None] * 85 if name == "PNG with a palette" else GREY[..., None], 3, axis=-1)
    assert np.abs(decode_image(GREY_FILES[name], name).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("bits", [1, 12, 16])
def test_dark_pictures_stay_dark(bits):
    dark = np.full((2, 4), 1 if bits == 1 else 40, np.uint16)  # of 1, 4,095 and 65,535
    content = png(dark, 1) if bits == 1 else tiff(dark, bits)
    assert np.unique(decode_image(content, "x")).tolist() == [round(dark[0, 0] / (2**bits - 1) * 255)]


COLOUR_FILES = {
    "PNG": (png(RGB, 8, 2), RGB),
    "PNG of 16 bits": (png(WIDE, 16, 2), RGB),
    "TIFF of 16 bits": (tiff(WIDE, 16, 2), RGB),
    "TIFF, fourth channel without a word": (tiff(WITH_FOURTH, 8, 2), RGB),
    "TIFF, fourth channel unspecified": (tiff(WITH_FOURTH, 8, 2, extra=[0]), RGB),
    "TIFF, fourth channel of a drawing program": (tiff(WITH_FOURTH, 8, 2, extra=[999]), RGB),
    "TIFF, fourth channel unspecified, 16 bits": (tiff(WITH_FOURTH.astype(np.uint16) * 257, 16, 2, extra=[0]), RGB),
    "TIFF, five channels": (tiff(np.dstack([WITH_FOURTH, RGB[..., :1]]), 8, 2, extra=[0, 0]), RGB),
    "TIFF, fourth channel transparent": (tiff(WITH_FOURTH, 8, 2, extra=[2]), ON_WHITE),
    "PNG, transparent": (png(WITH_FOURTH, 8, 6), ON_WHITE),
    "PNG, transparent, 16 bits": (png(WITH_FOURTH.astype(np.uint16) * 257, 16, 6), ON_WHITE),
    "PNG, one palette entry transparent": (
        png(NUMBERS, 2, 3, [10, 20, 30] * 4, clear=[0]),
        np.where(NUMBERS[..., None] == 0, 255, (10, 20, 30)),
    ),
    "PNG, one grey transparent": (png(GREY, clear=[0, 85]), np.where(GREY == 85, 255, GREY)[..., None].repeat(3, -1)),
    "CMYK": (
        tiff(np.dstack([255 - RGB, 0 * RGB[..., :1]]), 8, 5),
        RGB,
    ),
}


@pytest.mark.parametrize("name", COLOUR_FILES)
@pytest.mark.filterwarnings("ignore:.*marked as transparency")
def test_colours_of_every_kind_of_file(name):
    content, expected = COLOUR_FILES[name]
    assert np.abs(decode_image(content, name).astype(int) - expected).max() <= 1


OTHER_SPACES = ("LAB", "CMYK", "PA", *(["YCbCr"] if NEW else []))


@pytest.mark.parametrize("content", [saved(Image.new(mode, (4, 2)), "TIFF") for mode in OTHER_SPACES])
@pytest.mark.filterwarnings("ignore:.*marked as transparency")
def test_other_colour_spaces_are_read(content):
    assert decode_image(content, "x").shape == (2, 4, 3)


def test_lab_is_converted_by_its_definition():
    grey = np.zeros((2, 4, 3), np.uint8)
    grey[..., 0] = np.array([0, 64, 128, 255])  # L of 0, 25, 50 and 100 %
    assert decode_image(tiff(grey, 8, 8), "x")[0, :, 0].tolist() == pytest.approx([0, 60, 119, 255], abs=2)


REFUSED = {
    "floats beyond 1": (tiff(UNIT * 255, 32, kind=3), "expected floating-point pixels in 0..1, got 0..255"),
    "negative floats": (tiff(UNIT - 0.5, 32, kind=3), "expected floating-point pixels in 0..1, got -0.5..0.5"),
    "no numbers": (tiff(np.full((2, 4), np.nan, np.float32), 32, kind=3), "expected floating-point pixels in 0..1"),
    "32 bits": (tiff(GREY.astype(np.uint32), 32), "expected integers of 8, 12 or 16 bits without sign"),
    "signed": (tiff(GREY.astype(np.int16), 16, kind=2), "expected integers of 8, 12 or 16 bits without sign"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 2\n", "expected an image, but its content is none"),
    "nothing": (b"", "expected an image, but its content is none of JPEG"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_values_without_a_known_range_and_other_files_are_refused(name):
    content, message = REFUSED[name]
    with pytest.raises(ValueError, match=rf"a\.tif: {message}"):
        decode_image(content, "a.tif")


@pytest.mark.parametrize("values", [UNIT * 255, GREY.astype(np.int32)])
def test_pictures_of_the_caller_follow_the_same_rule(values):
    with pytest.raises(ValueError, match="expected"):
        to_rgb(Image.fromarray(values))


LABELS = {
    **{f"PNG of {bits} bits": png(NUMBERS, bits) for bits in (2, 4, 8, 16)},
    **{f"PNG with a palette of {bits} bits": png(NUMBERS, bits, 3, [9, 8, 7] * 4) for bits in (2, 4, 8)},
    "PNG with a transparent palette": png(NUMBERS, 2, 3, [9, 8, 7] * 4, clear=[0, 50]),
    **{f"TIFF of {bits} bits": tiff(NUMBERS.astype(np.uint32), bits) for bits in (2, 4, 8, 12, 16, 32)},
    **{f"TIFF of {bits} bits, white is 0": tiff(NUMBERS.astype(np.uint32), bits, 0) for bits in (2, 4, 8, 16)},
    "TIFF with a palette": tiff(NUMBERS, 8, 3, t320=[0] * 768),
    "BMP": saved(Image.fromarray(NUMBERS.astype(np.uint8)), "BMP"),
    "GIF": saved(Image.fromarray(NUMBERS.astype(np.uint8)), "GIF"),
}


@pytest.mark.parametrize("name", LABELS)
def test_label_numbers_are_those_of_the_file(name):
    values = decode_indices(LABELS[name], name)
    assert values.tolist() == NUMBERS.tolist()
    assert values.dtype.kind in "iu"


@pytest.mark.parametrize(
    "content",
    [png(NUMBERS % 2, 1), png(NUMBERS % 2, 1, 3, [9, 8, 7] * 2), tiff(NUMBERS % 2, 1), tiff(NUMBERS % 2, 1, 0)],
)
def test_labels_of_one_bit(content):
    assert decode_indices(content, "x").tolist() == (NUMBERS % 2).tolist()


NO_LABELS = {
    "colours": (png(RGB, 8, 2), "expected a label picture with one class number per pixel"),
    "floats": (tiff(UNIT, 32, kind=3), "expected a label picture with one class number per pixel"),
    "JPEG": (
        saved(Image.fromarray(GREY), "JPEG"),
        "expected a label picture in one of PNG, BMP, DIB, TIFF, GIF, got JPEG",
    ),
    "several": (
        saved(Image.fromarray(GREY), "TIFF", save_all=True, append_images=[Image.fromarray(GREY)]),
        "expected one label picture, got a file with several pages",
    ),
}


@pytest.mark.parametrize("name", NO_LABELS)
def test_what_is_no_label_picture_is_refused(name):
    content, message = NO_LABELS[name]
    with pytest.raises(ValueError, match=f"x: {message}"):
        decode_indices(content, "x")


FRAMES = [Image.fromarray(picture(8, 8, seed)) for seed in range(3)]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_pictures_the_first_is_read_and_that_is_said(kind):
    settings = {"lossless": True} if kind == "WEBP" else {}
    content = saved(FRAMES[0], kind, save_all=True, append_images=FRAMES[1:], **settings)
    with pytest.warns(UserWarning, match="x: has several pages or frames, the first is read"):
        first = decode_image(content, "x")
    alone = decode_image(saved(FRAMES[0], kind, **settings), "x")
    assert np.abs(first.astype(int) - alone).max() <= (0 if kind != "GIF" else 60)


def test_reduced_copies_and_what_phones_add_are_no_further_pictures():
    buffer = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(buffer, True) as writer:
        for number, frame in enumerate(FRAMES):
            frame.resize((8 >> number, 8 >> number)).save(writer, "TIFF", tiffinfo={254: int(number > 0)})
            writer.newFrame()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(decode_image(buffer.getvalue(), "x"), np.array(FRAMES[0]))
        decode_image(saved(FRAMES[0], "MPO", save_all=True, append_images=FRAMES[1:]), "x")


def test_a_channel_that_is_marked_as_transparency_is_mentioned():
    with pytest.warns(UserWarning, match=r"x\.tif: its last channel is marked as transparency and blended over white"):
        decode_image(tiff(WITH_FOURTH, 8, 2, extra=[2]), "x.tif")
    opaque = np.dstack([RGB, np.full((2, 4), 255, np.uint8)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode_image(tiff(opaque, 8, 2, extra=[2]), "x.tif")


def turned(orientation):
    """EXIF data that say how a picture is to be turned."""
    exif = Image.Exif()
    exif[274] = orientation
    return exif


@pytest.mark.parametrize("ending", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_photographs_are_turned_as_their_tag_says(ending, orientation):
    content = saved(Image.fromarray(picture(2, 4)), ending, exif=turned(orientation))
    expected = (4, 2) if orientation == 6 else (2, 4)
    assert image_size(content, "x") == decode_image(content, "x").shape[:2] == expected
    assert is_turned(content, "x") == (orientation != 1)


@pytest.mark.parametrize("ending", ["PNG", "TIFF"])
@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_labels_are_turned_as_their_own_tag_says(ending, orientation, turns):
    content = saved(Image.fromarray(NUMBERS.astype(np.uint8)), ending, exif=turned(orientation))
    assert decode_indices(content, "x").tolist() == np.rot90(NUMBERS, turns).tolist()


def test_colours_that_code_numbers_are_not_blended():
    pixels = picture(2, 4)
    clear = tuple(int(value) for value in pixels[0, 0])
    content = saved(Image.fromarray(pixels), "PNG", exif=turned(6), transparency=clear)
    assert np.array_equal(decode_rgb(content, "x"), np.rot90(pixels, 3))


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\x08"])
def test_damaged_exif_data_are_named(exif):
    content = saved(Image.fromarray(picture(2, 4)), "JPEG", exif=exif, dpi=(72, 72))
    for read in (decode_image, image_size):
        with pytest.raises(ValueError, match=r"x\.jpg: the image is damaged"):
            read(content, "x.jpg")


@pytest.fixture
def pillow(monkeypatch):
    """Pillow's settings, as they were after the test."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("limit", [23, 11], ids=["Pillow warns", "Pillow raises"])
@pytest.mark.parametrize("read", DECODERS)
@pytest.mark.usefixtures("pillow")
def test_pictures_beyond_the_bound_are_refused_with_the_flag_that_allows_them(limit, read):
    content = encoded("x.png", picture(4, 6))
    bound_pixels(limit)
    with pytest.raises(ValueError, match=rf"x\.png: expected at most {limit} pixels, got 24; .*--max-pixels 24 allows"):
        read(content, "x.png")
    bound_pixels(24)
    if read is not decode_indices:
        read(content, "x.png")


@pytest.mark.usefixtures("pillow")
def test_files_beyond_the_bound_are_not_read(tmp_path):
    bound_pixels(10)
    (tmp_path / "x.png").write_bytes(b"x" * 81)
    with pytest.raises(ValueError, match=r"x\.png: expected at most 80 bytes; --max-pixels allows more"):
        decode.read_image(tmp_path / "x.png")
