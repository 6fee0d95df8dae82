import numpy as np
import pytest
from PIL import Image, ImageFont

from expedit import draw
from expedit.prediction import Prediction, Segment

PALETTE = ((200, 10, 10), (10, 200, 10), (10, 10, 200))
CLASSES = ("sky", "grass", "ball")


def picture(h: int = 48, w: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (h, w, 3)).astype(np.uint8)


def quarters(h: int = 48, w: int = 64) -> np.ndarray:
    labels = np.zeros((h, w), np.uint8)
    labels[: h // 2, w // 2 :] = 1
    labels[h // 2 :, : w // 2] = 2
    labels[h // 2 :, w // 2 :] = 255
    return labels


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_colorize_looks_every_pixel_up(dtype: type) -> None:
    labels = quarters().astype(dtype)
    colors = draw.colorize(labels, PALETTE)
    assert colors.dtype == np.uint8
    for y, x in np.ndindex(labels.shape):
        expected = draw.NEUTRAL if labels[y, x] == 255 else PALETTE[labels[y, x]]
        assert tuple(colors[y, x]) == expected


@pytest.mark.parametrize("stray", [-1, 3, 99])
def test_colorize_is_neutral_outside_the_palette(stray: int) -> None:
    assert (draw.colorize(np.full((2, 3), stray), PALETTE) == draw.NEUTRAL).all()


def test_colorize_respects_another_ignore_value() -> None:
    assert (draw.colorize(np.zeros((2, 3), int), PALETTE, ignore=0) == draw.NEUTRAL).all()


def test_nothing_is_ignored_on_request() -> None:
    palette = [(i % 7, i % 11, i % 256) for i in range(300)]
    assert tuple(draw.colorize(np.full((1, 1), 255), palette, ignore=None)[0, 0]) == palette[255]
    assert not (draw.difference(np.zeros((2, 2), int), np.full((2, 2), 255), None) == draw.NEUTRAL).any()


def test_overlay_mixes_inside_and_leaves_ignored_pixels_alone() -> None:
    image, labels = picture(), quarters()
    mixed = draw.overlay(image, labels, PALETTE, alpha=0.5)
    inner = (slice(2, 20), slice(2, 28))
    expected = 0.5 * image[inner] + 0.5 * np.array(PALETTE[0])
    np.testing.assert_allclose(mixed[inner], expected, atol=1)
    np.testing.assert_array_equal(mixed[26:, 34:], image[26:, 34:])


def test_overlay_draws_a_light_line_between_segments() -> None:
    flat = np.full((20, 20, 3), 60, np.uint8)
    labels = np.zeros((20, 20), int)
    labels[:, 10:] = 1
    drawn = draw.overlay(flat, labels, PALETTE)
    assert drawn[5, 9].min() > 180
    assert drawn[5, 10].mean() < drawn[5, 12].mean()


def test_pictures_given_are_left_as_they_were() -> None:
    image, labels = picture(), quarters()
    before = image.copy(), labels.copy()
    draw.overlay(image, labels, PALETTE)
    draw.clusters(image, np.arange(12).reshape(3, 4))
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(labels, before[1])


def test_difference_marks_exactly_the_pixels_that_differ() -> None:
    reference = quarters()
    labels = np.where(reference == 255, 0, reference).astype(np.uint8)
    labels[3:6, 4:9] = 2
    drawn = draw.difference(labels, reference)
    wrong = (drawn == draw.WRONG).all(-1)
    expected = np.zeros_like(wrong)
    expected[3:6, 4:9] = True
    np.testing.assert_array_equal(wrong, expected)
    assert (drawn[reference == 255] == draw.NEUTRAL).all()


def test_clusters_are_filled_with_their_mean_colour() -> None:
    image = picture(64, 96)
    owner = np.random.default_rng(1).integers(0, 5, (8, 6)) * 100
    drawn = draw.clusters(image, owner)
    pixels = owner.repeat(8, 0).repeat(16, 1)
    flat = ~draw.borders(pixels)
    for name in np.unique(owner):
        mean = image[pixels == name].mean(0)
        assert abs(drawn[(pixels == name) & flat] - mean).max() <= 0.51


def test_clusters_of_a_flat_owner_and_a_size_that_does_not_divide() -> None:
    image = picture(50, 37)
    owner = np.arange(35) // 4
    np.testing.assert_array_equal(draw.clusters(image, owner, (7, 5)), draw.clusters(image, owner.reshape(7, 5)))


def test_clusters_of_more_tokens_than_pixels() -> None:
    assert draw.clusters(picture(3, 3), np.arange(64).reshape(8, 8)).shape == (3, 3, 3)


def test_borders_against_a_loop() -> None:
    labels = np.random.default_rng(2).integers(0, 3, (9, 11))
    edge = draw.borders(labels)
    for y, x in np.ndindex(labels.shape):
        near = [labels[min(y + 1, 8), x], labels[y, min(x + 1, 10)]]
        assert edge[y, x] == any(n != labels[y, x] for n in near)


def test_legend_shows_the_present_classes_only() -> None:
    drawn = draw.legend(CLASSES, PALETTE, present={0, 2})
    shown = {tuple(color) for color in drawn.reshape(-1, 3)}
    assert PALETTE[0] in shown
    assert PALETTE[2] in shown
    assert PALETTE[1] not in shown


def test_legend_grows_in_columns_and_stands_empty_lists() -> None:
    many = [f"class {i}" for i in range(45)]
    tall = draw.legend(many[:20], [(9, 9, 9)] * 20)
    wide = draw.legend(many, [(9, 9, 9)] * 45)
    assert wide.shape[0] == tall.shape[0]
    assert wide.shape[1] > 2 * tall.shape[1]
    assert draw.legend(CLASSES, PALETTE, present=()).size > 0


def panoptic(h: int = 160, w: int = 240) -> Prediction:
    ids = np.zeros((h, w), np.int32)
    ids[: h // 2] = 7
    ids[h // 2 :, : w // 2] = 1000
    ids[h // 2 :, w // 2 : -20] = 41
    found = (Segment(7, 0, 0.9, False), Segment(1000, 2, 0.8), Segment(41, 2, 0.7))
    return Prediction("panoptic", CLASSES, PALETTE, ids, found)


def test_segments_of_one_class_differ_and_nothing_stays_bare() -> None:
    image, result = np.full((160, 240, 3), 90, np.uint8), panoptic()
    drawn = draw.segments(image, result)
    left, right = drawn[150, 10].astype(int), drawn[150, 125].astype(int)
    assert abs(left - right).sum() > 20
    assert abs(left - (0.45 * 90 + 0.55 * np.array(PALETTE[2]))).max() <= 1.5
    assert (drawn[84:, -17:] == 90).all()


def test_panoptic_and_instance_draw_the_same_disjoint_segments() -> None:
    result = panoptic()
    masks = np.stack([result.labels == segment.id for segment in result.segments])
    same = Prediction("instance", CLASSES, PALETTE, None, result.segments, masks)
    image = picture(160, 240)
    np.testing.assert_array_equal(draw.segments(image, result), draw.segments(image, same))


def test_the_instance_of_higher_score_is_on_top() -> None:
    masks = np.zeros((2, 120, 160), bool)
    masks[0, :, :] = True
    masks[1, 20:100, 30:130] = True
    image = np.full((120, 160, 3), 128, np.uint8)
    front = (Segment(0, 0, 0.3), Segment(1, 1, 0.9))
    drawn = draw.segments(image, Prediction("instance", CLASSES, PALETTE, None, front, masks))
    assert drawn[25, 35, 1] > drawn[25, 35, 0]
    back = (Segment(0, 0, 0.9), Segment(1, 1, 0.3))
    drawn = draw.segments(image, Prediction("instance", CLASSES, PALETTE, None, back, masks))
    assert drawn[25, 35, 0] > drawn[25, 35, 1]


def test_segments_without_any_segment_give_the_image_back() -> None:
    image = picture()
    empty = Prediction("instance", CLASSES, PALETTE, None, (), np.zeros((0, 48, 64), bool))
    np.testing.assert_array_equal(draw.segments(image, empty), image)


def test_names_do_not_overlap_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = []
    original = draw.ImageDraw.ImageDraw.rounded_rectangle

    def spy(self: draw.ImageDraw.ImageDraw, box: tuple, *args: object, **settings: object) -> None:
        boxes.append(box)
        original(self, box, *args, **settings)

    monkeypatch.setattr(draw.ImageDraw.ImageDraw, "rounded_rectangle", spy)
    masks = np.zeros((8, 240, 320), bool)
    for place in range(8):
        masks[place, 110:120, 100 + 12 * place : 110 + 12 * place] = True
    found = tuple(Segment(place, place % 3, 0.5) for place in range(8))
    draw.segments(np.zeros((240, 320, 3), np.uint8), Prediction("instance", CLASSES, PALETTE, None, found, masks))
    assert len(boxes) == 8
    for i, (left, top, right, bottom) in enumerate(boxes):
        assert left >= 0
        assert top >= 0
        assert right < 320
        assert bottom < 240
        for a, b, c, d in boxes[:i]:
            assert right < a or c < left or bottom < b or d < top


def test_a_name_stands_inside_a_segment_that_has_room() -> None:
    mask = np.zeros((1, 200, 300), bool)
    mask[0, 120:190, 150:290] = True
    before = np.zeros((200, 300, 3), np.uint8)
    found = (Segment(0, 0, 0.5),)
    drawn = draw.segments(before, Prediction("instance", CLASSES, PALETTE, None, found, mask))
    lit = drawn.any(-1)
    ring = np.zeros_like(lit)
    ring[119:191, 149:291] = True
    assert not lit[~ring].any()


def test_depth_is_the_city_block_distance_to_the_outside() -> None:
    mask = np.random.default_rng(3).random((7, 9)) < 0.8
    outside = np.argwhere(~np.pad(mask, 1)) - 1
    depth = draw._depth(mask)
    for y, x in np.ndindex(mask.shape):
        assert depth[y, x] == abs(outside - (y, x)).sum(1).min()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: draw.overlay(picture()[..., 0], quarters(), PALETTE), "uint8 RGB"),
        (lambda: draw.overlay(picture() / 255, quarters(), PALETTE), "uint8 RGB"),
        (lambda: draw.overlay(picture(), quarters(8, 8), PALETTE), r"labels: expected integers of shape \(48, 64\)"),
        (lambda: draw.overlay(picture(), quarters(), PALETTE, alpha=55), "opacity in 0..1, got 55"),
        (lambda: draw.colorize(quarters().astype(float), PALETTE), "expected integers"),
        (lambda: draw.difference(quarters(), quarters(8, 8)), "labels: expected integers"),
        (lambda: draw.clusters(picture(), np.arange(12)), "owner: expected integers"),
        (lambda: draw.legend(CLASSES, PALETTE[:2]), "one colour for each of 3 classes, got 2"),
        (lambda: draw.segments(picture(), panoptic()), "prediction: expected integers of shape"),
        (lambda: draw.segments(picture(), Prediction("semantic", CLASSES, PALETTE, quarters())), "use overlay"),
    ],
)
def test_wrong_input_is_named(call, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


def test_legend_names_are_readable() -> None:
    """The ink of a name is where its own font would put it: the legend is as wide as its longest name."""
    drawn = draw.legend(("a rather long class name",), ((1, 2, 3),), font_size=16)
    assert drawn.shape[1] >= 32 + ImageFont.load_default(size=16).getlength("a rather long class name")
    dark = (np.asarray(Image.fromarray(drawn).convert("L")) < 100)[:, 40:]
    assert dark.any(0).sum() > 100
