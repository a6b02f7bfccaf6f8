"""Synthesise speech with the espeak-ng library of the package espeakng-loader, through ctypes.

The library keeps the state of its noise, vibrato and wave in static variables that nothing resets, so its output
depends on earlier utterances. To make equal arguments give equal samples, the library is loaded for every utterance and
unloaded after it, which takes about half a millisecond.

Constants and structures follow espeak-ng's `speak_lib.h` and `espeak_ng.h` (version 1.52).
"""

from __future__ import annotations

import _ctypes
import ctypes
import difflib
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import torch
from torch import Tensor

PITCHES = range(100)
RATES = range(80, 451)

_SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: samples go to the callback, within the call
_DONT_EXIT = 0x8000  # or the library exits the whole process when its data are missing
_BUFFER_MS = 1000
_RATE, _PITCH = 1, 3  # espeak_PARAMETER
_BY_CHARACTER = 1  # espeak_POSITION_TYPE
_UTF8 = 1
_RANDOM_SEED = 1

# One utterance at a time in the whole process: the library also uses `rand` of the C library, which has one state.
_LOCK = threading.Lock()


class _CVoice(ctypes.Structure):
    """`espeak_VOICE`. `languages` is bytes: a priority, a name ended by zero, the next priority, ..., zero."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_void_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("reserved", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


_OnSamples = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class Voice:
    """A language or a variant of the library, the two parts of a voice's name.

    Attributes:
        name: a language such as `en-us`, or a variant such as `+f3` to append to a language.
        kind: a language (with its accent) or a variant (a timbre).
        description: the library's description, such as `English (America)`.
        file: path of its definition in the library's data, such as `gmw/en-us` or `!v/f3`.
    """

    name: str
    kind: Literal["language", "variant"]
    description: str
    file: str


class Synthesizer:
    """Synthesise short texts; equal arguments give equal samples.

    The library is copied to a temporary folder, so that other users of espeak-ng in the process are not affected.
    `close`, or the end of the `with` block, removes the folder. Threads wait for each other. Linux and macOS only.

    Attributes:
        version: the library's version, such as `1.52.0`.
        sample_rate: sample rate of all utterances, in Hz.

    Raises:
        OSError: espeakng-loader is missing or lacks its data; on Windows; or where libraries cannot be loaded from
            the temporary folder.
        RuntimeError: the temporary folder's path is too long for the library.
    """

    def __init__(self) -> None:
        library, data = _find_espeak()
        self._folder = tempfile.TemporaryDirectory(prefix="eyetoy-espeak-")
        self._library = Path(shutil.copy(library, self._folder.name))
        self._data = _link_data(data, Path(self._folder.name, "espeak-ng-data"))
        with _LOCK, _loaded(self._library, self._data) as (espeak, self.sample_rate):
            self._voices = {voice.name: voice for voice in _list_languages(espeak) + _list_variants(espeak)}
            self.version = _version(espeak)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the private copy of the library. A second call does nothing."""
        self._folder.cleanup()

    def voices(self) -> list[Voice]:
        """Return all languages, then all variants, each sorted by name."""
        return list(self._voices.values())

    def say(self, text: str, voice: str, *, pitch: int = 50, rate: int = 175) -> tuple[Tensor, int]:
        """Synthesise a text.

        Args:
            text: the text; not blank.
            voice: a language and optionally a variant: `en-us`, `en-gb-scotland+f3`.
            pitch: from 0 to 99, relative to the voice's pitch; 50 leaves it unchanged.
            rate: words per minute, from 80 to 450.

        Returns:
            the samples, float32 `[samples]` in [-1, 1], and the sample rate in Hz.

        Raises:
            ValueError: an argument is out of range, or there is no such voice.
            RuntimeError: the library fails, or returns no sound.
        """
        if not text.strip() or "\0" in text:
            raise ValueError(f"text is {text!r}; it should have words and no zero character")
        _check_range("pitch", pitch, PITCHES)
        _check_range("rate", rate, RATES)
        file = self._voice_file(voice)
        with _LOCK, _loaded(self._library, self._data) as (espeak, sample_rate):
            samples = _speak(espeak, text, file, pitch, rate)
        if not any(samples):
            raise RuntimeError(f"espeak-ng gave no sound for {text!r} by the voice {voice!r}")
        return torch.frombuffer(samples, dtype=torch.int16).float() / 32768, sample_rate

    def _voice_file(self, voice: str) -> str:
        """Return the library's name of a voice: the file of the language, and the variant unchanged."""
        language, plus, variant = voice.partition("+")
        # Checked here, because the library silently speaks without a variant that it does not know.
        for part in (language, plus + variant) if plus else (language,):
            if part not in self._voices:
                near = ", ".join(difflib.get_close_matches(part, self._voices, n=5)) or "none is near"
                raise ValueError(f"voice is {voice!r}, and {part!r} is not in voices(); near to it: {near}")
        # By file: the library finds a language by name only if the file has that name (en-gb is in a file named en).
        return self._voices[language].file + plus + variant


def _find_espeak() -> tuple[Path, Path]:
    """Return the paths of the library and of its data."""
    if sys.platform == "win32":
        raise OSError("espeak-ng is not loaded and unloaded in the way this needs on Windows; use Linux or macOS")
    try:
        import espeakng_loader
    except ImportError as error:
        # An OSError, as where the system has no such library: a command says it in a sentence.
        raise OSError('speech synthesis needs espeakng-loader: pip install "eyetoy[audio]"') from error
    library, data = Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())
    if not (data / "phontab").is_file():
        raise OSError(f"{data} is not the data of espeak-ng; espeakng-loader should be installed again")
    return library, data


def _link_data(data: Path, links: Path) -> Path:
    """Make `links` a folder of links to the library's data, and return it.

    The library refuses paths of 160 characters or more, which an installed package may have. And it looks up a language
    by its name in lower case; if no such file exists it reads all 250 voices, which takes longer than the synthesis.
    """
    languages = [path for path in data.glob("lang/**/*") if path.is_file()]
    others = [path for path in data.glob("*") if path.name != "lang"]
    for path in languages + others:
        link = links / path.parent.relative_to(data) / path.name.lower()
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    return links


@contextmanager
def _loaded(library: Path, data: Path) -> Iterator[tuple[ctypes.CDLL, int]]:
    """Load the library with fresh static variables; yield it and its sample rate in Hz; unload it at the end."""
    espeak = ctypes.CDLL(str(library))
    try:
        sample_rate = espeak.espeak_Initialize(_SYNCHRONOUS, _BUFFER_MS, bytes(data), _DONT_EXIT)
        if sample_rate <= 0:
            raise RuntimeError(f"espeak-ng cannot use the links in {data}; their path should be below 160 characters")
        yield espeak, sample_rate
        espeak.espeak_Terminate()
    finally:
        # ctypes never unloads a library by itself; without this the next CDLL would return the same variables.
        _ctypes.dlclose(espeak._handle)


def _speak(espeak: ctypes.CDLL, text: str, file: str, pitch: int, rate: int) -> bytearray:
    """Return 16-bit samples as bytes."""
    samples = bytearray()

    def keep(address: int | None, count: int, _events: int | None) -> int:
        if address and count > 0:
            samples.extend(ctypes.string_at(address, 2 * count))
        return 0  # continue

    # The library has a bare pointer only; this local name keeps the callback from being collected.
    callback = _OnSamples(keep)
    espeak.espeak_SetSynthCallback(callback)
    _check_status("choosing the voice", espeak.espeak_SetVoiceByName(file.encode()))
    _check_status("setting the pitch", espeak.espeak_SetParameter(_PITCH, pitch, 0))
    _check_status("setting the rate", espeak.espeak_SetParameter(_RATE, rate, 0))
    espeak.espeak_ng_SetRandSeed(ctypes.c_long(_RANDOM_SEED))
    # The breath of some variants, such as Reed, uses `rand` of the C library instead.
    espeak.srand(_RANDOM_SEED)
    encoded = text.encode() + b"\0"
    size, start, end = ctypes.c_size_t(len(encoded)), 0, 0  # from 0 to 0: the whole text
    status = espeak.espeak_Synth(encoded, size, start, _BY_CHARACTER, end, _UTF8, None, None)
    _check_status("speaking", status)
    return samples


def _list_languages(espeak: ctypes.CDLL) -> list[Voice]:
    voices = [
        Voice(_first_language(voice), "language", voice.name.decode(), voice.identifier.decode())
        for voice in _list_voices(espeak, None)
    ]
    return sorted(voices, key=lambda voice: voice.name)


def _list_variants(espeak: ctypes.CDLL) -> list[Voice]:
    # The library lists variants only if "variant" is given as the language.
    query = ctypes.create_string_buffer(b"variant")
    listed = _list_voices(espeak, ctypes.byref(_CVoice(languages=ctypes.addressof(query))))
    voices = [
        Voice(
            "+" + voice.identifier.decode().rpartition("/")[2],
            "variant",
            voice.name.decode(),
            voice.identifier.decode(),
        )
        for voice in listed
    ]
    return sorted(voices, key=lambda voice: voice.name)


def _list_voices(espeak: ctypes.CDLL, query: object) -> list[_CVoice]:
    espeak.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_CVoice))
    table = espeak.espeak_ListVoices(query)
    voices: list[_CVoice] = []
    while table[len(voices)]:  # the table ends with a null pointer
        voices.append(table[len(voices)].contents)
    return voices


def _first_language(voice: _CVoice) -> str:
    return ctypes.string_at(voice.languages + 1).decode()  # + 1: the first byte is its priority


def _version(espeak: ctypes.CDLL) -> str:
    espeak.espeak_Info.restype = ctypes.c_char_p  # by default ctypes would cut the pointer to 32 bits
    version: bytes = espeak.espeak_Info(None)
    return version.decode()


def _check_range(name: str, value: int, allowed: range) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; it should be a whole number from {allowed[0]} to {allowed[-1]}")


def _check_status(action: str, status: int) -> None:
    if status != 0:
        raise RuntimeError(f"espeak-ng failed in {action}: its status is {status}, it should be 0")
