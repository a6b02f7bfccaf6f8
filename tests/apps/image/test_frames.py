"""How far it is from the command to the model: what a reader steps through in a debugger."""

from __future__ import annotations

import json
import subprocess
import sys

from helpers.paths import REPOSITORY

STOPPED = """
import json, runpy, sys, traceback
from eyetoy import Encoder

def stop(self, x, lengths=None, **options):
    raise NotImplementedError

Encoder.forward = stop
root, script = sys.argv[1], sys.argv[2]
sys.argv = sys.argv[2:]
try:
    runpy.run_path(script, run_name="__main__")
except NotImplementedError as error:
    frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(root)]
    print(json.dumps([frame for frame in frames if "/.venv/" not in frame]))
"""


def test_from_the_command_to_the_encoder(tmp_path):
    """The last of our frames is the one that calls the encoder: `stop` above takes the place of `Encoder.forward`."""
    script = REPOSITORY / "apps" / "image" / "train.py"
    command = [sys.executable, "-c", STOPPED, str(REPOSITORY), str(script), "--output_dir", "run", "--max_steps", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=200)
    frames = json.loads(done.stdout.splitlines()[-1])
    frames.append(str(REPOSITORY / "packages" / "eyetoy" / "encoder.py"))
    assert frames[0] == str(script)
    assert len(frames) <= 7, frames
    assert len(set(frames)) <= 5, frames
