"""The page, made with Gradio. It loads nothing from other hosts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from eyetoy_demo.checkpoints import Run, facts, find_included, find_runs
from eyetoy_demo.examples import OWN, find_examples
from eyetoy_demo.installed import installed_modalities
from eyetoy_demo.looking import answer, extensions
from eyetoy_demo.temporary import KEPT_SECONDS
from eyetoy_train.types import MODALITIES, Modality
from eyetoy_train.utils.text import shown

TITLES: dict[Modality, str] = {"image": "Image", "audio": "Sound", "video": "Video"}
AXES: dict[Modality, tuple[str, ...]] = {
    "image": ("height", "width"),
    "audio": ("time",),
    "video": ("time", "height", "width"),
}
LARGEST_UPLOAD = "200mb"
HEAD = """
# EyeToy
Multi-scale neighborhood attention on images, sounds and videos: predictions for your files, and attention maps.
"""
CSS = """
.gradio-container { width: 100% !important; max-width: 1280px !important; margin: auto !important; }
#image-file img { width: 100%; height: 100%; object-fit: contain; image-rendering: pixelated; }
#video-file video { max-height: 260px; }
.about li { font-size: 0.95em; } .about ul { padding-left: 1.2em; }
.note { min-height: 0; }
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
    """Return the page for the runs of a folder, which come first, and the included models."""
    own, left_out = find_runs(runs)
    found = [*own, *find_included()]
    with gr.Blocks(title="EyeToy", analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)) as page:
        gr.Markdown(HEAD)
        present = installed_modalities()
        if others := [TITLES[modality].lower() for modality in MODALITIES if modality not in present]:
            gr.Markdown(f'For {" and ".join(others)}: `pip install "eyetoy[demo]"`')
        for modality in present:
            with gr.Tab(TITLES[modality], elem_id=f"{modality}-tab"):
                _tab(modality, {str(run.folder): run for run in found if run.modality == modality})
        if left_out:
            with gr.Accordion(f"Not in the lists: {len(left_out)} of {shown(runs)}", open=False):
                lines = [f"- **{_plain(one.name)}**: {_plain(one.reason)}." for one in left_out]
                gr.Markdown("\n".join(lines), elem_id="left-out")
    return page


def serve(page: Any, *, host: str, port: int) -> None:
    """Serve the page until the program is stopped."""
    page.launch(server_name=host, server_port=port or None, prevent_thread_lock=True, **launch_options())
    # Now that the page is there, import what its first answer needs.
    for modality in installed_modalities():
        extensions(modality)
    page.block_thread()


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


def _tab(modality: Modality, runs: Mapping[str, Run]) -> None:
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            names = [(shown(run.name), folder) for folder, run in runs.items()]
            first = next(iter(runs), None)
            run = gr.Dropdown(names, value=first, label="Checkpoint", elem_id=f"{modality}-run")
            about = gr.Markdown(_about(runs, first), elem_id=f"{modality}-about", elem_classes="about")
            file = _given(modality)
            samples = gr.Dataset(
                components=[file], type="index", elem_id=f"{modality}-samples", **_samples(runs, first)
            )
            with gr.Accordion("The point whose neighborhoods are shown", open=False):
                sliders = [gr.Slider(0, 1, 0.5, step=0.01, label=f"fraction of the {axis}") for axis in AXES[modality]]
        with gr.Column(scale=5):
            outputs = _outputs(modality)
    run.change(partial(_about, runs), run, about, show_progress="hidden")
    run.change(lambda chosen: gr.Dataset(components=[file], **_samples(runs, chosen)), run, samples)
    samples.click(partial(_pick, runs), [run, samples], file, show_progress="hidden")
    _connect(modality, _Tab(run, file, sliders, outputs))


def _about(runs: Mapping[str, Run], chosen: str | None) -> str:
    """Return what a checkpoint knows and how good it is, in Markdown."""
    known = {} if chosen is None else facts(runs[chosen])
    return "\n".join(f"- **{name}:** {_plain(fact)}" for name, fact in known.items())


def _plain(text: str) -> str:
    """Return text that Markdown leaves as it is: names of classes and folders are other people's."""
    return re.sub(r"([\\`*_{}\[\]<>#|$~!])", r"\\\1", shown(text))


def _samples(runs: Mapping[str, Run], chosen: str | None) -> dict[str, Any]:
    """Return what the list of files to pick from shows for a checkpoint."""
    if chosen is None:
        return {"samples": [], "sample_labels": None, "visible": False, "label": OWN}
    found, is_sound = find_examples(runs[chosen]), runs[chosen].modality == "audio"
    return {
        "samples": [[str(file)] for file in found.files],
        # A picture or a clip shows itself; a sound is known by its class, which its name or its folder tells.
        "sample_labels": [shown(name) for name in found.names] if is_sound else None,
        "visible": bool(found.files),
        "label": found.title,
    }


def _pick(runs: Mapping[str, Run], chosen: str, index: int) -> str:
    """Return a file that was picked."""
    return str(find_examples(runs[chosen]).files[index])


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
    note = gr.Markdown(elem_id=f"{modality}-note", elem_classes="note")
    found = gr.Image(visible=False, elem_id=f"{modality}-found", **shown)
    timeline = gr.Image(visible=False, elem_id=f"{modality}-timeline", **shown)
    gr.Markdown("### Attention maps")
    is_clip = modality == "video"
    size: dict[str, Any] = {"height": 260, "buttons": ["download"]}
    clip = gr.Video(show_label=False, visible=is_clip, autoplay=True, loop=True, elem_id=f"{modality}-clip", **size)
    maps = gr.Image(elem_id=f"{modality}-maps", **shown)
    return message, classes, note, found, timeline, clip, maps


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
    timeline = gr.update(value=seen.timeline, visible=seen.timeline is not None)
    return _plain(seen.message), dict(seen.classes) or None, seen.note, found, timeline, clip, seen.maps


def _clicked(file: str, event: gr.SelectData) -> tuple[float, float]:
    """Return the clicked point of an image, as fractions of its height and width as a browser shows it: upright."""
    from eyetoy_image.io.files import upright_size  # the app may be missing; then there is no tab of images

    with Image.open(file) as picture:
        height, width = upright_size(picture)
    x, y = event.index
    return round(min(y / height, 1), 2), round(min(x / width, 1), 2)
