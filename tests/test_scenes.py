import pytest
import torch

from dlnotes.boxes import box_iou, corners
from dlnotes.scenes import SHAPES, scenes, shape, stroke


def draw(n=40, seed=0, **options):
    return scenes(n, torch.Generator().manual_seed(seed), **options)


def test_the_same_state_gives_the_same_scenes():
    (first, there), (again, where), (other, _) = draw(5), draw(5), draw(5, seed=1)
    assert torch.equal(first, again)
    assert all(torch.equal(a["boxes"], b["boxes"]) for a, b in zip(there, where, strict=True))
    assert not torch.equal(first, other)
    state = torch.random.get_rng_state()
    draw(2)
    assert torch.equal(torch.random.get_rng_state(), state)  # from the generator alone


def test_images_and_targets_are_as_promised():
    images, targets = draw(60, size=48, most=5, overlap=0.1)
    assert images.shape == (60, 3, 48, 48)
    assert images.min() >= 0
    assert images.max() <= 1
    counts = [len(target["labels"]) for target in targets]
    assert min(counts) == 0  # images without objects are among them
    assert max(counts) > 2
    assert {label for target in targets for label in target["labels"].tolist()} == {0, 1, 2}
    for target in targets:
        boxes = corners("boxes", target["boxes"])
        assert boxes.shape == (len(target["labels"]), 4)
        assert target["labels"].dtype == torch.int64
        if len(boxes):
            sides = boxes[:, 2:] - boxes[:, :2]
            assert boxes.min() >= 0
            assert boxes.max() <= 48
            assert sides.min() >= 48 / 6 - 1
            assert sides.max() <= 24 + 1
            assert (box_iou(boxes, boxes) - torch.eye(len(boxes))).max() <= 0.1


def test_empty_images_and_none_at_all():
    _, targets = draw(9, empty=1)
    assert {target["boxes"].shape for target in targets} == {(0, 4)}
    _, targets = draw(9, empty=0)
    assert all(len(target["labels"]) for target in targets)
    images, targets = draw(0)
    assert images.shape == (0, 3, 64, 64)
    assert targets == []


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("box", [[4.0, 6.0, 20.0, 30.0], [0.0, 0.0, 32.0, 32.0], [3.0, 3.0, 29.0, 11.0]])
def test_a_shape_fills_its_box_to_all_sides(name, box):
    inside = shape(name, torch.tensor(box), 32)
    rows, columns = inside.any(1).nonzero()[:, 0], inside.any(0).nonzero()[:, 0]
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert all(abs(int(a) - b) <= 1 for a, b in zip(found, box, strict=True))
    area = (box[2] - box[0]) * (box[3] - box[1])
    share = {"ellipse": torch.pi / 4, "rectangle": 1.0, "triangle": 0.5}[name]
    assert inside.sum().item() / area == pytest.approx(share, rel=0.06)


def test_strokes_have_their_width():
    assert stroke(torch.tensor([4.0, 16.0, 28.0, 16.0]), 32, 4.0).sum().item() == pytest.approx(4 * 24 + 12, abs=8)
    assert stroke(torch.tensor([8.0, 8.0, 8.0, 8.0]), 16, 4.0).sum().item() == pytest.approx(12, abs=2)  # a dot


def test_where_an_object_is_the_image_has_its_colour():
    (image,), (target,) = draw(1, seed=3, most=1, empty=0, clutter=0)
    inside = shape(SHAPES[int(target["labels"][0])], target["boxes"][0], 64)
    within, around = image[:, inside].mean(1), image[:, ~inside].mean(1)
    assert ((within - around).abs() > 0.1).all()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"n": -1}, ValueError, "n must be >= 0, got -1"),
        ({"size": 8}, ValueError, "size must be >= 16, got 8"),
        ({"most": 0}, ValueError, "most must be >= 1, got 0"),
        ({"clutter": -1}, ValueError, "clutter must be >= 0, got -1"),
        ({"empty": 1.5}, ValueError, r"empty and overlap must be in \[0, 1\], got 1.5"),
        ({"overlap": -0.5}, ValueError, "overlap must be >= 0, got -0.5"),
    ],
)
def test_errors(options, error, words):
    with pytest.raises(error, match=words):
        draw(**options)
    with pytest.raises(ValueError, match="name must be one of .* got 'star'"):
        shape("star", torch.zeros(4), 8)
