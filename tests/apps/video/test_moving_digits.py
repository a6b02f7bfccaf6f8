"""The moving digits: what is written, what is held out, and that only the motion tells the class."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from scipy.stats import ks_2samp

from eyetoy_video.datasets.moving_digits import DIGITS, MOTIONS, PHOTOGRAPHS, motion_path, write_moving_digits

SMALL = {"train": 2, "val": 1, "test": 1, "num_frames": 8, "size": 32}


def decode(path: Path) -> np.ndarray:
    """[num_frames, height, width, 3]."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24", threads=1) for frame in container.decode(video=0)])


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("digits") / "tree"
    write_moving_digits(root, **SMALL)
    return root


def test_writes_a_tree_of_class_folders(tree):
    for split in ("train", "val", "test"):
        assert sorted(folder.name for folder in (tree / split).iterdir()) == sorted(MOTIONS)
        for motion in MOTIONS:
            names = sorted(file.name for file in (tree / split / motion).iterdir())
            assert names == [f"{number:05d}.mp4" for number in range(SMALL[split])]
    assert sorted(entry.name for entry in tree.iterdir()) == ["README.txt", "test", "train", "val"]
    assert [entry.name for entry in tree.parent.iterdir()] == ["tree"], "the temporary folder was left behind"


def test_clips_have_the_frames_size_and_rate_asked_for(tmp_path):
    write_moving_digits(tmp_path / "clips", train=1, val=1, test=1, num_frames=5, size=48, fps=12)
    clip = tmp_path / "clips/test/up/00000.mp4"
    assert decode(clip).shape == (5, 48, 48, 3)
    with av.open(str(clip)) as container:
        assert container.streams.video[0].average_rate == 12


def test_readme_says_what_is_held_out(tree):
    text = (tree / "README.txt").read_text(encoding="utf-8")
    for expected in ("32 clips", "8 frames", "32 x 32 pixels", "seed 0", "CC0", *sum(PHOTOGRAPHS.values(), ())):
        assert expected in text


def test_nothing_serves_two_splits():
    photographs = sum(PHOTOGRAPHS.values(), ())
    assert len(photographs) == len(set(photographs)) >= 6
    digits = [number for part in DIGITS.values() for number in range(1797)[part]]
    assert len(digits) == len(set(digits))
    assert min(len(range(1797)[part]) for part in DIGITS.values()) >= 100


def test_the_same_seed_gives_the_same_frames_and_more_clips_begin_alike(tree, tmp_path):
    write_moving_digits(tmp_path / "more", **(SMALL | {"train": 3}))
    for file in sorted(tree.rglob("*.mp4")):
        assert np.array_equal(decode(file), decode(tmp_path / "more" / file.relative_to(tree))), file


def test_clips_and_seeds_differ(tree, tmp_path):
    write_moving_digits(tmp_path / "other", **(SMALL | {"seed": 1}))
    frames = [decode(file).tobytes() for root in (tree, tmp_path / "other") for file in sorted(root.rglob("*.mp4"))]
    assert len(frames) == len(set(frames)) == 64


def test_an_existing_folder_is_not_touched(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("precious")
    with pytest.raises(FileExistsError, match="mine"):
        write_moving_digits(tmp_path / "mine", **SMALL)
    assert (tmp_path / "mine/file").read_text() == "precious"
    assert len(list(tmp_path.rglob("*"))) == 2


def test_an_interrupted_call_leaves_nothing(tmp_path, monkeypatch):
    written, open_file = [], av.open

    def interrupted_open(file, mode):
        written.append(file)
        if len(written) == 20:
            raise KeyboardInterrupt
        return open_file(file, mode)

    monkeypatch.setattr(av, "open", interrupted_open)
    with pytest.raises(KeyboardInterrupt):
        write_moving_digits(tmp_path / "clips", **SMALL)
    assert len(written) == 20
    assert not list(tmp_path.iterdir())


def test_a_folder_made_meanwhile_is_not_overwritten(tmp_path, monkeypatch):
    root, open_file = tmp_path / "clips", av.open

    def open_while_another_writes(file, mode):
        (root / "train").mkdir(parents=True, exist_ok=True)
        return open_file(file, mode)

    monkeypatch.setattr(av, "open", open_while_another_writes)
    with pytest.raises(FileExistsError, match="clips"):
        write_moving_digits(root, **SMALL)
    assert [entry.name for entry in root.iterdir()] == ["train"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"train": 0}, "train.*1.*0"), ({"size": 33}, "even.*33"), ({"size": 16}, "32.*16"), ({"num_frames": 1}, "2.*1")],
)
def test_bad_arguments_say_what_would_be_right(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_moving_digits(tmp_path / "clips", **arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("motion", MOTIONS)
def test_only_the_coordinate_of_the_class_moves(motion):
    """And it moves the right way: y and the angle grow downwards and clockwise."""
    coordinate = {"left": 0, "right": 0, "up": 1, "down": 1, "shrinking": 2, "growing": 2}.get(motion, 3)
    sign = 1 if motion in ("right", "down", "growing", "clockwise") else -1
    rng = np.random.default_rng(0)
    for _ in range(50):
        steps = np.diff(motion_path(motion, 16, rng), axis=0)
        assert (sign * steps[:, coordinate] > 0).all()
        assert (np.delete(steps, coordinate, axis=1) == 0).all()


@pytest.fixture(scope="module")
def states() -> dict[str, np.ndarray]:
    """The digit's state in a random frame of each of 1,500 clips, [1500, 4]."""
    rng = np.random.default_rng(0)
    return {name: np.stack([motion_path(name, 16, rng)[rng.integers(16)] for _ in range(1500)]) for name in MOTIONS}


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_single_frame_does_not_tell_the_class(states, motion):
    """Place, size and angle are spread as in the other classes (Kolmogorov-Smirnov)."""
    others = np.concatenate([states[name] for name in MOTIONS if name != motion])
    for coordinate in range(4):
        assert ks_2samp(states[motion][:, coordinate], others[:, coordinate]).statistic < 0.05


@pytest.fixture(scope="module")
def clear_clips(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("clear") / "clips"
    write_moving_digits(root, train=5, val=1, test=1)
    return root / "train"


def changes(path: Path) -> np.ndarray:
    """Where each frame differs from the next: the digit's edges, [num_frames - 1, height, width]."""
    clip = decode(path).astype(float).mean(3)
    difference = np.abs(np.diff(clip, axis=0))
    return np.where(difference > 12, difference, 0)  # less is the encoder's doing


def center(image: np.ndarray) -> np.ndarray:
    y, x = np.indices(image.shape)
    return np.array([(x * image).sum(), (y * image).sum()]) / image.sum()


def spread(image: np.ndarray) -> float:
    y, x = np.indices(image.shape)
    cx, cy = center(image)
    return float((((x - cx) ** 2 + (y - cy) ** 2) * image).sum() / image.sum()) ** 0.5


def turned(first: np.ndarray, last: np.ndarray) -> float:
    """The clockwise angle, in degrees, by which `first` is turned when it looks most like `last`."""
    pivot = tuple(center(first + last))

    def match(angle: int) -> float:
        rotated = np.asarray(Image.fromarray(first).rotate(-angle, center=pivot))  # Pillow turns counterclockwise
        return float(np.corrcoef(rotated.ravel(), last.ravel())[0, 1])

    return max(range(-90, 91, 5), key=match)


MEASURES = {
    "left": lambda first, last: center(first)[0] - center(last)[0],
    "up": lambda first, last: center(first)[1] - center(last)[1],
    "growing": lambda first, last: spread(last) - spread(first),
    "clockwise": turned,
}


@pytest.mark.parametrize(
    ("motion", "opposite"),
    [("left", "right"), ("up", "down"), ("growing", "shrinking"), ("clockwise", "counterclockwise")],
)
def test_the_files_show_the_motion_they_are_filed_under(clear_clips, motion, opposite):
    for name, sign in ((motion, 1), (opposite, -1)):
        moved = [changes(file) for file in sorted((clear_clips / name).iterdir())]
        # The first half will do, and a quarter turn is never exceeded in it.
        measured = [sign * MEASURES[motion](clip[:2].sum(0), clip[7:9].sum(0)) for clip in moved]
        assert sum(value > 0 for value in measured) >= 4, (name, measured)
