"""Windows by tensor operations against those of an evaluation, which cuts and pads."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eyetoy_audio.recipe import AudioClassificationRecipe, AudioData
from eyetoy_audio.task import AudioClassification


@pytest.mark.parametrize("padding", ["silence", "mask"])
@settings(max_examples=40)
@given(length=st.integers(1, 90), samples=st.integers(1, 40), windows=st.integers(1, 4), level=st.floats(1e-6, 2))
def test_a_batch_is_heard_as_each_clip_in_an_evaluation(padding, length, samples, windows, level):
    data = AudioData(sample_rate=1000, seconds=samples / 1000, windows=windows, padding=padding)
    task = AudioClassification(AudioClassificationRecipe(name="test", data=data))
    clips = level * torch.randn(3, length, generator=torch.Generator().manual_seed(length))
    batch = task.export_input().prepare(clips)
    for i, clip in enumerate(clips):
        alone = task.example(clip[None], training=False)
        for key, expected in alone.items():
            rows = batch[key][i * windows : (i + 1) * windows]
            torch.testing.assert_close(rows, expected if windows > 1 else expected[None])


def test_an_exported_model_sees_every_view():
    data = AudioData(sample_rate=1000, seconds=0.016, windows=3)
    given = AudioClassification(AudioClassificationRecipe(name="test", data=data)).export_input()
    assert given.views == 3
    assert {x.shape[1] > 16 for x in given.examples} == {False, True}, "shorter and longer clips are compared"
