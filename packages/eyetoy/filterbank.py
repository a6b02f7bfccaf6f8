"""A learned filterbank: how loud each band of a waveform is, from filters that start on the mel scale."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eyetoy.conv import same_grid_padding
from eyetoy.lengths import clear_padding, shrink, valid_tokens
from eyetoy.params import FilterbankParams
from eyetoy.tracing import one_fx_node

SILENT = 1e-20
"""The energy of silence, so that it has a logarithm."""
LEAST_VARIANCE = 1e-5
"""Added to the variance, so that silence is divided by more than zero."""


class Filterbank(nn.Module):
    """Map waveforms to log energies of bands: `[batch, samples, 1] -> [batch, ceil(samples / stride), num_filters]`.

    Pairs of filters, a cosine and a sine, run over the waveform; the energy of a band is the sum of both squares,
    smoothed and taken at every `stride` samples. So a token tells how loud each band is and not where its waves begin,
    which a plain convolution has to learn to ignore. The filters start as Gabor's, centered evenly on the mel scale
    (O'Shaughnessy's), and are learned (Zeghidour et al., Learning filterbanks from raw speech, ICASSP 2018). Energies
    further below a clip's largest one than `range_db` are raised to that, and the result has mean 0 and variance 1 over
    a clip, so that a gain changes nothing. Computed in float32, also under autocast.

    Raises:
        ValueError: a filter, or the step from one token to the next, is too short to hold samples.
    """

    scale: Tensor
    smoothing: Tensor

    def __init__(self, params: FilterbankParams) -> None:
        super().__init__()
        self.params = params
        # Filters run every `step` samples, four times for each token: high bands change within a token.
        self.filter_size, self.step, self.rate = params.window, params.step, params.rate
        # Geometry of the whole, as of one convolution: the smoothing reaches `2 * rate - 1` steps.
        self.stride = (params.stride,)
        self.kernel_size = (self.filter_size + 2 * (self.rate - 1) * self.step,)
        # Not named `weight`: filters are no matrix for weight decay and for Muon, and their size means nothing.
        self.filters = nn.Parameter(torch.empty(2 * params.num_filters, self.filter_size))
        self.register_buffer("scale", torch.empty(2 * params.num_filters, 1), persistent=False)
        self.register_buffer("smoothing", torch.empty(2 * self.rate - 1), persistent=False)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Compute the first filters, also after `to_empty`."""
        filters, scale = _gabor_filters(self.params)
        self.filters.copy_(filters)
        self.scale.copy_(scale)
        hann = torch.hann_window(2 * self.rate)[1:]  # periodic: without its zero, it is symmetric
        self.smoothing.copy_(hann / hann.sum())

    @property
    def padding_before(self) -> tuple[int, ...]:
        """Zeros before the waveform; they do not depend on its length."""
        before, _ = same_grid_padding(1, self.filter_size, self.step)
        return (before + (self.rate // 2) * self.step,)

    @one_fx_node
    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the bands' log energies; what comes after the end of a clip is meaningless."""
        with torch.autocast(x.device.type, enabled=False):  # half precision has too few digits for a range of 60 dB
            energy = self._energy(clear_padding(x, lengths)[..., 0].float(), shrink(lengths, (self.step,)))
            least = 10 ** (-self.params.range_db / 10)
            return _standardized(energy, shrink(lengths, self.stride), least).to(x.dtype)

    def _energy(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Return the bands' energies, `[batch, tokens, bands]`, of `[batch, samples]`; `lengths` are in steps."""
        waves = F.pad(x, same_grid_padding(x.shape[-1], self.filter_size, self.step))
        # As one matrix product: a convolution of one channel by a hundred takes a CPU three times as long.
        filtered = F.linear(waves.unfold(-1, self.filter_size, self.step), (self.filters * self.scale).float())
        energy = torch.unflatten(filtered.square(), -1, (2, -1)).sum(-2)  # [batch, steps, bands]
        if lengths is not None:
            energy = energy * valid_tokens(lengths, energy.shape[1])[..., None]
        padding = same_grid_padding(energy.shape[1], 2 * self.rate - 1, self.rate)
        padded = F.pad(energy, (0, 0, *padding)).mT  # [batch, bands, steps]
        kernel = self.smoothing.float().expand(padded.shape[1], 1, -1)
        return F.conv1d(padded, kernel, stride=self.rate, groups=padded.shape[1]).mT

    def extra_repr(self) -> str:
        """Sizes for `print(model)`."""
        return f"1, {self.params.num_filters}, filter_size={self.filter_size}, stride={self.stride}"


def _standardized(energy: Tensor, lengths: Tensor | None, least: float) -> Tensor:
    """Return `[batch, tokens, bands]` on a logarithmic scale, of mean 0 and variance 1 over the tokens of each clip."""
    if lengths is None:
        valid, count = energy.new_ones(1, 1, 1), energy[:1, :, :1].new_ones(()) * energy.shape[1]
    else:
        valid, count = valid_tokens(lengths, energy.shape[1])[..., None].to(energy), lengths[:, None, None].to(energy)
    count = count * energy.shape[2]
    floor = (energy * valid).amax((1, 2), keepdim=True) * least
    x = energy.maximum(floor.clamp_min(SILENT)).log()
    x = (x - (x * valid).sum((1, 2), keepdim=True) / count) * valid
    return x / (x.square().sum((1, 2), keepdim=True) / count + LEAST_VARIANCE).sqrt()


def mel_points(num_bands: int, sample_rate: int) -> Tensor:
    """Return where mel bands begin, have their middle and end, in Hz: `[num_bands + 2]`, float64.

    They lie evenly on O'Shaughnessy's scale, from 0 to half the sample rate. Band b goes from point b to point b + 2.
    """
    highest = 2595 * math.log10(1 + sample_rate / 2 / 700)
    mels = torch.linspace(0, highest, num_bands + 2, dtype=torch.float64)
    return 700 * (10 ** (mels / 2595) - 1)


def _gabor_filters(params: FilterbankParams) -> tuple[Tensor, Tensor]:
    """Return cosines and then sines under bells, `[2 * bands, samples]`, and their scales, `[2 * bands, 1]`."""
    size, rate = params.window, params.sample_rate
    hertz = mel_points(params.num_filters, rate)
    center, width = hertz[1:-1, None], (hertz[2:] - hertz[:-2])[:, None] / 2
    time = (torch.arange(size, dtype=torch.float64) - (size - 1) / 2) / rate  # seconds from the middle
    # A bell whose energy in frequency is half as high at half a band's width from the center; it ends with the window.
    spread = math.sqrt(math.log(2)) / (math.pi * width)
    bell = (
        torch.exp(-0.5 * (time / spread) ** 2) * torch.hann_window(size + 2, periodic=False, dtype=torch.float64)[1:-1]
    )
    phase = 2 * math.pi * center * time
    filters = torch.cat([bell * phase.cos(), bell * phase.sin()])
    # The filters are stored with a height of 1, where an optimizer's steps are small; a pure tone in the middle of any
    # band has the same energy.
    return filters.float(), (1 / bell.sum(1, keepdim=True)).repeat(2, 1).float()
