"""The page, made with Gradio. It loads nothing from other hosts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from eyetoy_demo.checkpoints import MODALITIES, Run, find_runs, sample_files
from eyetoy_demo.looking import EXTENSIONS, answer
from eyetoy_train.types import Modality

TITLES: dict[Modality, str] = {"image": "Image", "audio": "Sound", "video": "Video"}
AXES: dict[Modality, tuple[str, ...]] = {
    "image": ("height", "width"),
    "audio": ("time",),
    "video": ("time", "height", "width"),
}
LARGEST_UPLOAD = "200mb"
KEPT_SECONDS = 3600
"""Age at which uploads and images are deleted."""
HEAD = """
# EyeToy
Multi-scale neighborhood attention on images, sounds and videos: predictions for your files, and attention maps.
"""
CSS = """
.gradio-container { max-width: 1280px !important; margin: auto !important; }
#image-file img { width: 100%; height: 100%; object-fit: contain; image-rendering: pixelated; }
#video-file video { max-height: 260px; }
.message { min-height: 0; } .message p { color: #b42318; font-weight: 600; font-size: 1.05em; }
"""


@dataclass(frozen=True)
class _Tab:
    """The inputs and outputs of a modality's tab."""

    run: Any
    file: Any
    sliders: Sequence[Any]
    outputs: Sequence[Any]


def build_page(runs: Path) -> Any:
    """Return the page for the runs of a folder."""
    found = find_runs(runs)
    with gr.Blocks(title="EyeToy", analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)) as page:
        gr.Markdown(HEAD)
        for modality in MODALITIES:
            with gr.Tab(TITLES[modality], elem_id=f"{modality}-tab"):
                _tab(modality, [run for run in found if run.modality == modality])
    return page


def serve(page: Any, *, host: str, port: int) -> None:
    """Serve the page until the program is stopped."""
    page.launch(server_name=host, server_port=port or None, **launch_options())


def launch_options() -> dict[str, Any]:
    """Return Gradio's options for serving the page."""
    # Fonts of the reader's machine: the default ones would be loaded from another host.
    fonts: dict[str, Any] = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    return {
        "theme": gr.themes.Soft(primary_hue="orange", **fonts),
        "css": CSS,
        "ssr_mode": False,
        "footer_links": [],
        "max_file_size": LARGEST_UPLOAD,
    }


def _tab(modality: Modality, runs: Sequence[Run]) -> None:
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            names = [(run.name, str(run.folder)) for run in runs]
            first = names[0][1] if names else None
            run = gr.Dropdown(names, value=first, label="Checkpoint", elem_id=f"{modality}-run")
            file = _given(modality)
            samples = sample_files(runs[0], EXTENSIONS[modality]) if runs else []
            if samples:
                names_shown = [f"{path.parent.name}: {path.stem}" for path in samples] if modality == "audio" else None
                gr.Examples(
                    [[str(path)] for path in samples],
                    file,
                    label="Held-out files to pick from",
                    example_labels=names_shown,
                )
            with gr.Accordion("The point whose neighborhoods are shown", open=False):
                sliders = [gr.Slider(0, 1, 0.5, step=0.01, label=f"fraction of the {axis}") for axis in AXES[modality]]
        with gr.Column(scale=5):
            outputs = _outputs(modality)
    _connect(modality, _Tab(run, file, sliders, outputs))


def _given(modality: Modality) -> Any:
    """Return the input for a file, which is dropped, recorded or picked."""
    common: dict[str, Any] = {"elem_id": f"{modality}-file", "show_label": False}
    if modality == "audio":
        return gr.Audio(type="filepath", **common)
    if modality == "video":
        return gr.Video(include_audio=True, **common)
    image: Any = gr.Image(type="filepath", height=300, **common)
    # Gradio would decode and write images again; the apps' readers must get the file as it was uploaded.
    image.preprocess = lambda payload: None if payload is None else payload.path
    return image


def _outputs(modality: Modality) -> Sequence[Any]:
    shown: dict[str, Any] = {"show_label": False, "format": "png", "buttons": ["download", "fullscreen"]}
    message = gr.Markdown(elem_id=f"{modality}-message", elem_classes="message")
    classes = gr.Label(num_top_classes=5, label="Prediction", elem_id=f"{modality}-classes")
    found = gr.Image(visible=False, elem_id=f"{modality}-found", **shown)
    gr.Markdown("### Attention maps")
    is_clip = modality == "video"
    size: dict[str, Any] = {"height": 260, "buttons": ["download"]}
    clip = gr.Video(show_label=False, visible=is_clip, autoplay=True, loop=True, elem_id=f"{modality}-clip", **size)
    maps = gr.Image(elem_id=f"{modality}-maps", **shown)
    return message, classes, found, clip, maps


def _connect(modality: Modality, tab: _Tab) -> None:
    """Update the outputs after every choice."""
    # release, not change: a slider that is dragged changes many times a second.
    triggers = [tab.run.change, tab.file.change, *(slider.release for slider in tab.sliders)]
    look = partial(_look, modality)
    given = [tab.run, tab.file, *tab.sliders]
    gr.on(triggers, look, given, list(tab.outputs), show_progress="minimal", trigger_mode="always_last")
    if modality == "image":
        tab.file.select(_clicked, tab.file, list(tab.sliders)).then(look, given, list(tab.outputs))


def _look(modality: Modality, run: str | None, file: str | None, *fractions: float) -> tuple[Any, ...]:
    at = dict(zip(AXES[modality], fractions, strict=True))
    seen = answer(modality, None if run is None else Path(run), None if file is None else Path(file), at)
    clip = None if seen.clip is None else str(seen.clip)
    found = gr.update(value=seen.found, visible=seen.found is not None)
    return seen.message, dict(seen.classes) or None, found, clip, seen.maps


def _clicked(file: str, event: gr.SelectData) -> tuple[float, float]:
    """Return the clicked point of an image, as fractions of its height and width."""
    with Image.open(file) as picture:
        width, height = picture.size
    x, y = event.index
    return round(min(y / height, 1), 2), round(min(x / width, 1), 2)
