"""Check a set of video files before a run: find missing, broken and short ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from tqdm import tqdm

from eyetoy_train import ClassFolder, parse_recipe
from eyetoy_train.commands.cli import check_parser, parse_with_overrides, refuse_ignored_options
from eyetoy_train.data.source import FolderSource
from eyetoy_train.ending import exit_on_error
from eyetoy_train.media.errors import NotVideoError
from eyetoy_train.media.video import Decoder, decode, describe_decoders, open_video
from eyetoy_train.utils.console import log
from eyetoy_video.app import APP
from eyetoy_video.datasets import DATASETS
from eyetoy_video.datasets.lists import write_lists
from eyetoy_video.datasets.source import missing_files
from eyetoy_video.io.lengths import Length, Record
from eyetoy_video.recipe import VideoClassificationRecipe, VideoData
from eyetoy_video.transforms.sampling import ClipSampling

RECORD = ".eyetoy-videos.jsonl"
SMALL = 16
"""Short side of decoded frames: only their being decodable matters, and small ones take less memory."""
AT_ONCE = 512
"""Number of frames decoded at a time."""

Kind = Literal["missing", "broken", "short"]


@dataclass(frozen=True)
class Finding:
    """A faulty file."""

    kind: Kind
    path: Path
    why: str


@dataclass(frozen=True, kw_only=True)
class Examination:
    """Open a file and decode the frames of an evaluation, or all frames."""

    sampling: ClipSampling
    """Chooses the frames of an evaluation."""
    decoder: Decoder = "auto"
    """The library that decodes."""
    every_frame: bool = False
    """Decode all frames."""

    def __call__(self, path: Path) -> Length:
        """Return the length of a video.

        Raises:
            NotVideoError: the video cannot be read.
            FileNotFoundError: there is no such file.
        """
        with open_video(path) as video:
            count = len(video.index)
            numbers = range(count) if self.every_frame else sorted(set(self.sampling.numbers(video.index)))
            # In parts: a long video would not fit in memory, least of all in as many threads as there are cores.
            for start in range(0, len(numbers), AT_ONCE):
                decode(video, numbers[start : start + AT_ONCE], self.decoder, SMALL)
            return Length(count, video.index.seconds)


def find_broken(
    paths: Sequence[Path], examine: Examination, record: Record
) -> tuple[dict[Path, Length], list[Finding]]:
    """Examine files, in as many threads as there are cores.

    Args:
        paths: the files.
        examine: examines one.
        record: intact files of earlier checks, which are not examined again.

    Returns:
        the lengths of intact files, and the findings about the others.
    """
    lengths = {path: length for path in paths if (length := record.get(path)) is not None}
    new = [path for path in paths if path not in lengths]
    broken: list[Finding] = []

    def examined(path: Path) -> Length | Finding:
        try:
            return examine(path)
        except (NotVideoError, OSError) as error:
            return Finding("broken", path, error.wrong if isinstance(error, NotVideoError) else str(error))

    # Threads: decoders release the interpreter's lock. Not a `with` block, which waits for all files after Ctrl+C.
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        with record.writing() as file:
            found = pool.map(examined, new)
            shown = tqdm(found, "checking files", len(new), leave=False, disable=None)
            for path, result in zip(new, shown, strict=True):
                if isinstance(result, Finding):
                    broken.append(result)
                    continue
                lengths[path] = result
                if file:  # line by line, so that an interrupted check goes on where it stopped
                    file.write(record.line(path, result))
    finally:
        pool.shutdown(cancel_futures=True)
    return lengths, broken


def find_short(lengths: dict[Path, Length], num_frames: int, seconds: float) -> list[Finding]:
    """Return the files with fewer than `num_frames` frames, or shorter than `seconds`."""
    return [
        Finding("short", path, f"{length.num_frames} frames, {length.seconds:.2f} seconds")
        for path, length in lengths.items()
        if length.num_frames < num_frames or length.seconds < seconds
    ]


@exit_on_error()
def check(argv: Sequence[str] | None = None) -> int:
    """Check the files of a recipe's data set, log findings, and write lists of the good files.

    The exit code is returned, see `check_parser`.
    """
    parser = check_parser("Find missing, broken and short files.")
    parser.add_argument("--seconds", type=float, default=0.0, help="files shorter than this are short (default: 0)")
    parser.add_argument("--every_frame", action="store_true", help="decode all frames, not just those of an evaluation")
    parser.add_argument("--output", type=Path, help="folder, or with --split a .csv file, for lists of the good files")
    options, overrides = parse_with_overrides(parser, argv)
    recipe = parse_recipe(VideoClassificationRecipe, APP.default_config, overrides)
    refuse_ignored_options(VideoClassificationRecipe, overrides, "check")
    data = recipe.data
    log(describe_decoders(data.decoder))
    source = DATASETS.open(data, recipe.seed)
    if not isinstance(source, FolderSource):
        raise ValueError(f"{data.root} is a set of the hub, which has no list of files")
    clips = source.listed
    if options.split is not None:
        if options.split not in clips.splits:
            raise ValueError(f"the set has no split {options.split!r}, but {', '.join(clips.splits)}")
        clips = ClassFolder(clips.classes, {options.split: clips.splits[options.split]})
    files = list({path: None for samples in clips.splits.values() for path, _ in samples})
    findings = _findings(files, data, seconds=options.seconds, every_frame=options.every_frame)
    _report(findings, len(files))
    if options.output:
        write_lists(options.output, clips.without({finding.path for finding in findings}))
    return int(bool(findings))


def _findings(files: Sequence[Path], data: VideoData, *, seconds: float, every_frame: bool) -> list[Finding]:
    lost = set(missing_files(files))
    sampling = ClipSampling(data.num_frames, data.frame_stride, data.frame_rate, data.clips)
    examine = Examination(sampling=sampling, decoder=data.decoder, every_frame=every_frame)
    root = Path(data.root)
    record = Record((root.parent if root.is_file() else root) / RECORD, every_frame=every_frame)
    lengths, broken = find_broken([path for path in files if path not in lost], examine, record)
    missing = [Finding("missing", path, "there is no such file") for path in files if path in lost]
    return [*missing, *broken, *find_short(lengths, data.num_frames, seconds)]


def _report(findings: Sequence[Finding], total: int) -> None:
    counts = {kind: [finding for finding in findings if finding.kind == kind] for kind in get_args(Kind)}
    faulty = ", ".join(f"{len(found)} {kind}" for kind, found in counts.items())
    log(f"{total} files: {total - len(findings)} right, {faulty}")
    for finding in findings:
        log(f"{finding.kind}: {finding.path}: {finding.why}")
