"""A payload that leaves a mark if it runs, and a way to measure what a reader takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SERVER = """
import json, os, resource, sys, warnings
from pathlib import Path
import soundfile, av, torch, torchaudio
from PIL import Image
from eyetoy import create_model
from eyetoy_audio.io.files import read_sound
from eyetoy_image.detection.datasets.coco import read_coco
from eyetoy_image.io.files import read_image
from eyetoy_image.dense.masks import read_mask
from eyetoy_image.segmentation.datasets.label_maps import read_values
from eyetoy_train import TarStream
from eyetoy_train.models.build import load_classifier
from eyetoy_video.io.files import read_clips
from eyetoy_video.transforms.sampling import ClipSampling
warnings.simplefilter("ignore")
Image.init()
# What torch imports for the first model on the meta device is no cost of a reader.
with torch.device("meta"):
    create_model("eyetoy2d_pico", num_classes=2)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

def answer(call, path):
    before = peak()
    try:
        said = str(eval(call))
    except (ValueError, OSError, RuntimeError) as error:
        said = f"refused: {type(error).__name__}: {error}"
    return json.dumps([said, peak() - before])

for line in sys.stdin:
    call, path = json.loads(line)
    process = os.fork()
    if not process:
        print(answer(call, Path(path)), flush=True)
        os._exit(0)
    _, status = os.waitpid(process, 0)
    if status:
        print(json.dumps([f"died: {status}", 0]), flush=True)
"""


class Payload:
    """An object whose unpickling makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def payload(tmp_path):
    """Something that makes `mark` when it is unpickled; the test fails if that happened."""
    mark = tmp_path / "it_ran"
    yield Payload(mark)
    assert not mark.exists()


@pytest.fixture(scope="session")
def measured():
    """Run an expression of `path` in a process of its own; return its text and the megabytes that it took."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", SERVER], text=True, **pipes) as server:

        def run(call: str, path: Path = Path()) -> tuple[str, int]:
            server.stdin.write(json.dumps([call, str(path)]) + "\n")
            server.stdin.flush()
            said, megabytes = json.loads(server.stdout.readline())
            return said, megabytes

        yield run
        server.kill()  # loading workers that other tests forked may hold the pipe open: the end of it might never come
