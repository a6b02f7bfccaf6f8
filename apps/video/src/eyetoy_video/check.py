"""Check a set of video files before a run: find missing, broken, short and odd ones, and copies."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from eyetoy_train import ClassFolder, parse_recipe
from eyetoy_train.commands.check import files_check_parser, files_of, listed_files, log_groups
from eyetoy_train.commands.cli import parse_with_overrides, refuse_ignored_options
from eyetoy_train.data.findings import Finding, find_copies, find_empty, find_odd, summary, without
from eyetoy_train.data.folder import EmptyClassError
from eyetoy_train.data.inventory import Inventory
from eyetoy_train.data.source import files_of as source_files
from eyetoy_train.data.unreadable import name_few
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

LEFT_OUT = ("missing", "broken", "short", "contradictory", "duplicate")
"""Kinds of findings whose files are no part of the lists of good files; an odd one may be right."""


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
    parser = files_check_parser("Find files that are missing, broken, short, odd or come twice, and empty classes.")
    parser.add_argument("--seconds", type=float, default=0.0, help="files shorter than this are short (default: 0)")
    parser.add_argument("--every_frame", action="store_true", help="decode all frames, not just those of an evaluation")
    parser.add_argument("--output", type=Path, help="folder, or with --split a .csv file, for lists of the good files")
    options, overrides = parse_with_overrides(parser, argv)
    recipe = parse_recipe(VideoClassificationRecipe, APP.default_config, overrides)
    refuse_ignored_options(VideoClassificationRecipe, overrides, "check")
    data = recipe.data
    log(describe_decoders(data.decoder))
    try:
        source, clips = listed_files(DATASETS, data, recipe.seed, options)
    except EmptyClassError as error:
        log(f"empty: {error}")
        return 1
    log(f"data: {replace(clips, left_out=source.listed.left_out).describe()}")
    # Without the source's counts of what is left out, which it refuses to tell while clips are missing.
    files, groups = source_files(clips.splits), source.groups_of(clips.splits)
    log_groups(Inventory(clips.classes, {}, places=clips.sources, files=files, groups=groups))
    findings = _findings(clips, data, options)
    log(summary(findings, len(files_of(clips))))
    for line in map(str, findings) if options.all else name_few(findings):
        log(line)
    if options.output:
        write_lists(options.output, without(clips, [one for one in findings if one.kind in LEFT_OUT]), data.path)
    return int(bool(findings))


def _findings(clips: ClassFolder, data: VideoData, options: argparse.Namespace) -> list[Finding]:
    files = files_of(clips)
    lost = set(missing_files(files))
    sampling = ClipSampling(data.num_frames, data.frame_stride, data.frame_rate, data.clips)
    examine = Examination(sampling=sampling, decoder=data.decoder, every_frame=options.every_frame)
    root = Path(data.root)
    record = Record((root.parent if root.is_file() else root) / RECORD, every_frame=options.every_frame)
    lengths, broken = find_broken([path for path in files if path not in lost], examine, record)
    missing = [Finding("missing", path, "there is no such file") for path in files if path in lost]
    short = find_short(lengths, data.num_frames, options.seconds)
    faulty = {finding.what for finding in short}  # not odd as well
    measures = {path: {"seconds": length.seconds} for path, length in lengths.items() if path not in faulty}
    return [*missing, *broken, *short, *find_copies(clips), *find_empty(clips), *find_odd(measures, options.odd)]
