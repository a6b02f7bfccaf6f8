"""Speech synthesis: what there is, that it is sound, and that it is the same each time."""

from __future__ import annotations

import sys
import threading

import espeakng_loader
import pytest
import torch
import torchaudio

from eyetoy_audio.datasets.espeak import Synthesizer
from helpers.forks import FORKS

# One variant of each of the library's ways to make sound. f3 and whisper draw noise from the library's own generator,
# caleb from the C library's.
VARIANTS = ("f3", "klatt2", "klatt6", "whisper", "caleb")


@pytest.fixture(scope="module")
def synthesizer():
    with Synthesizer() as opened:
        yield opened


def test_languages_and_variants_are_listed_by_the_names_that_say_takes(synthesizer):
    voices = synthesizer.voices()
    languages = {voice.name for voice in voices if voice.kind == "language"}
    variants = {voice.name for voice in voices if voice.kind == "variant"}
    assert {"en-us", "en-gb", "en-gb-scotland", "fr-fr"} <= languages
    assert {"+f1", "+m3", "+klatt2"} <= variants
    assert len(languages) + len(variants) == len(voices)


@pytest.mark.parametrize("voice", ["en-us", "en-gb", "en-gb-scotland+f3", "en-029+klatt6"])
def test_speech_is_sound_of_a_plausible_length_and_level(synthesizer, voice):
    samples, sample_rate = synthesizer.say("stop", voice)
    assert samples.dtype == torch.float32
    assert samples.ndim == 1
    assert sample_rate == synthesizer.sample_rate == 22050
    assert 0.2 < len(samples) / sample_rate < 1.0
    assert 0.1 < samples.abs().max() <= 1.0


def test_every_variant_is_heard(synthesizer):
    plain, _ = synthesizer.say("go", "en-us")
    variants = [voice.name for voice in synthesizer.voices() if voice.kind == "variant"]
    assert len(variants) > 50
    unheard = [name for name in variants if torch.equal(synthesizer.say("go", "en-us" + name)[0], plain)]
    assert unheard == ["+fast"]  # it differs at high rates only


@pytest.mark.parametrize("variant", VARIANTS)
def test_equal_arguments_give_equal_samples_whatever_was_said_between(synthesizer, variant):
    first, _ = synthesizer.say("stop", f"en-us+{variant}")
    for other in VARIANTS:
        synthesizer.say("left and right", f"en-gb+{other}", pitch=80, rate=300)
    again, _ = synthesizer.say("stop", f"en-us+{variant}")
    assert torch.equal(first, again)


def test_another_process_gives_equal_samples(synthesizer):
    program = """if True:
        import hashlib
        from eyetoy_audio.datasets.espeak import Synthesizer
        with Synthesizer() as synthesizer:
            for variant in ("f3", "caleb"):
                samples, _ = synthesizer.say("stop", f"en-us+{variant}")
                print(float(samples.double().square().sum()), len(samples))
    """
    printed = FORKS.run(["-c", program]).stdout
    here = [synthesizer.say("stop", f"en-us+{variant}")[0] for variant in ("f3", "caleb")]
    assert printed.split() == [
        str(x) for samples in here for x in (float(samples.double().square().sum()), len(samples))
    ]


@pytest.mark.parametrize("shared", [True, False], ids=["one synthesizer", "two synthesizers"])
def test_threads_do_not_disturb_each_other(synthesizer, shared):
    expected, _ = synthesizer.say("stop", "en-us+caleb")
    spoken = []

    def speak():
        with Synthesizer() as own:
            used = synthesizer if shared else own
            spoken.extend(used.say("stop", "en-us+caleb")[0] for _ in range(30))

    threads = [threading.Thread(target=speak) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(spoken) == 60
    assert all(torch.equal(samples, expected) for samples in spoken)


def test_every_argument_changes_the_speech(synthesizer):
    ways = [
        ("stop", "en-us", 50, 175),
        ("go", "en-us", 50, 175),
        ("stop", "en-gb-scotland", 50, 175),
        ("stop", "en-us+f3", 50, 175),
        ("stop", "en-us", 80, 175),
        ("stop", "en-us", 50, 100),
    ]
    spoken = [synthesizer.say(text, voice, pitch=pitch, rate=rate)[0] for text, voice, pitch, rate in ways]
    assert not any(torch.equal(a, b) for i, a in enumerate(spoken) for b in spoken[:i])
    assert len(spoken[-1]) > 1.2 * len(spoken[0])  # 100 words per minute take longer than 175


def test_a_higher_pitch_is_higher(synthesizer):
    def hertz(pitch: int) -> float:
        samples, sample_rate = synthesizer.say("we were away", "en-us", pitch=pitch)
        found = torchaudio.functional.detect_pitch_frequency(samples, sample_rate, freq_low=50, freq_high=400)
        return float(found.median())

    assert 60 < hertz(10) < 0.8 * hertz(50) < 0.64 * hertz(90) < 200


@pytest.mark.parametrize(
    ("text", "voice", "options", "message"),
    [
        ("stop", "en-us+f33", {}, r"'en-us\+f33', and '\+f33' is not in voices.*\+f3"),
        ("stop", "en-uss", {}, "'en-uss' is not in voices.*en-us"),
        ("stop", "", {}, "'' is not in voices"),
        ("stop", "+f3", {}, "'' is not in voices"),
        (" ", "en-us", {}, "text is ' '"),
        ("st\0op", "en-us", {}, "no zero character"),
        ("stop", "en-us", {"pitch": 100}, "pitch is 100; it should be a whole number from 0 to 99"),
        ("stop", "en-us", {"pitch": -1}, "pitch is -1"),
        ("stop", "en-us", {"rate": 79}, "rate is 79; it should be a whole number from 80 to 450"),
    ],
)
def test_wrong_arguments_are_refused_by_value(synthesizer, text, voice, options, message):
    with pytest.raises(ValueError, match=message):
        synthesizer.say(text, voice, **options)


def test_what_gives_no_sound_is_an_error(synthesizer):
    with pytest.raises(RuntimeError, match=r"no sound for '\.\.\.'"):
        synthesizer.say("...", "en-us")


def test_without_the_package_the_command_that_helps_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(OSError, match=r'pip install "eyetoy\[audio\]"'):
        Synthesizer()


def test_importing_the_module_loads_no_library():
    program = "import sys, eyetoy_audio.datasets.espeak; print('espeakng_loader' in sys.modules)"
    printed = FORKS.run(["-c", program]).stdout
    assert printed.strip() == "False"


def test_nothing_is_left_in_the_temporary_folder(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Synthesizer() as synthesizer:
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())
    synthesizer.close()  # again, to no effect


def test_a_long_path_to_the_data_does_no_harm(monkeypatch, tmp_path):
    folder = tmp_path / ("long" * 50)
    folder.mkdir()
    (folder / "espeak-ng-data").symlink_to(espeakng_loader.get_data_path())
    monkeypatch.setattr("espeakng_loader.get_data_path", lambda: str(folder / "espeak-ng-data"))
    with Synthesizer() as synthesizer:
        assert len(synthesizer.say("stop", "en-gb-scotland+whisperf")[0]) > 0


def test_missing_data_is_an_error_that_names_the_folder(monkeypatch, tmp_path):
    monkeypatch.setattr("espeakng_loader.get_data_path", lambda: str(tmp_path / "nothing"))
    with pytest.raises(OSError, match="nothing"):
        Synthesizer()
