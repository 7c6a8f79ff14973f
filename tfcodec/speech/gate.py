"""Silence costs nothing: a gate behind any speech codec's encoder, which leaves out packets in which nobody speaks.

Nobody speaks where neither the sound nor a band of it stands out of the background: the least of the last seconds.
The gate opens with the very block in which something does, and closes late. Packets are empty then; now and then one
goes through, so that the receiver, which goes on with noise like what it heard last, hears what has become of it.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tfcodec.rates import SAMPLE_RATE
from tfcodec.samples import Samples, check_samples
from tfcodec.speech.packets import Encoder

NOT_SENT = b""
"""Stands for a packet that is left out."""

BLOCK = SAMPLE_RATE // 100
"""Samples between two looks; each takes in the block before as well."""
_EDGES_HZ = (80, 500, 1000, 2000, 3000, 4500, 7500)
_MEMORY = 250  # blocks (2.5 s) whose least is the background: some gap between words lies in any such stretch of speech
_WARM = 150  # blocks before anything is taken for the background
_SMOOTH = 8  # blocks over which noise is averaged before its least is taken
_LEAST_BIAS = 10**0.12  # that least lies below the mean of steady noise
_SILENT = 1e-8  # -80 dBFS in a band: below that nobody hears anything
_RISE, _JUMP = 5.0, 7.5
"""How much louder than the background a band must be, for two blocks or for one, to be more than noise: in standard
deviations of noise of its bandwidth."""
_HANGOVER = 25
"""Blocks after the last voice in which the gate stays open: soft ends of words, and noise alone for the receiver."""
REFRESH = 240
"""Blocks (2.4 s) after which a packet of background noise goes through."""
_WORTH_SAYING = 1e-7  # power of background noise (-70 dBFS) below which none does


class VoiceActivity:
    """Says of every block of 10 ms whether it is more than background."""

    def __init__(self) -> None:
        # The newest block counts in full, up to its end: a word may begin there.
        self._window = np.concatenate([np.hanning(2 * BLOCK)[:BLOCK] ** 2, np.ones(BLOCK - 16), np.hanning(32)[16:]])
        frequencies = np.fft.rfftfreq(512, 1 / SAMPLE_RATE)
        edges = np.searchsorted(frequencies, _EDGES_HZ)
        self._bands = [slice(a, b) for a, b in pairwise(edges)] + [slice(edges[0], edges[-1])]
        seconds = np.square(np.square(self._window).sum()) / (self._window**4).sum() / SAMPLE_RATE
        widths = np.array([*np.diff(_EDGES_HZ), _EDGES_HZ[-1] - _EDGES_HZ[0]])
        self._deviation = 1 / np.sqrt(widths * seconds)
        self._rest = np.zeros(BLOCK, np.float32)
        self._least = np.full((_MEMORY, len(self._bands)), np.inf)
        self._recent = np.zeros((_SMOOTH, len(self._bands)))
        self._count = 0
        self._rose = False

    @property
    def background(self) -> float:
        """Power of the background noise, 1 being full scale."""
        return float(self._floor()[-1])

    def push(self, samples: Samples) -> list[bool]:
        """Take samples [n]; one answer for each block that is complete."""
        known = np.concatenate([self._rest, samples])
        blocks = len(known) // BLOCK - 1
        self._rest = known[max(0, blocks) * BLOCK :]
        return [self._look(known[i * BLOCK : (i + 2) * BLOCK]) for i in range(blocks)]

    def _floor(self) -> npt.NDArray[np.float64]:
        """The background's power in each band."""
        if self._count < _WARM:  # until something is known of it, everything that can be heard counts as more
            return np.full(len(self._bands), _SILENT)
        return np.maximum(self._least.min(0) * _LEAST_BIAS, _SILENT)

    def _look(self, samples: Samples) -> bool:
        spectrum = np.abs(np.fft.rfft(samples * self._window, 512)) ** 2
        power = np.array([spectrum[band].sum() for band in self._bands]) * (2 / 512 / np.square(self._window).sum())
        loud = power / self._floor()
        rose = bool((loud > 1 + _RISE * self._deviation).any())
        voice = bool((loud > 1 + _JUMP * self._deviation).any()) or (rose and self._rose)
        self._rose = rose
        self._recent[self._count % _SMOOTH] = power
        if self._count >= _SMOOTH:
            self._least[self._count % _MEMORY] = self._recent.mean(0)
        self._count += 1
        return voice


class GatedEncoder:
    """An encoder whose packets are empty while nobody speaks.

    Args:
        encoder: the codec's. It is fed all sound, so that its state goes on.
        lookback: packets that are held back, so that they can be sent after all when the next one has voice.

    Attributes:
        pre_skip, packet_ms: the encoder's.
    """

    def __init__(self, encoder: Encoder, lookback: int = 0) -> None:
        self.pre_skip, self.packet_ms = encoder.pre_skip, encoder.packet_ms
        self._encoder, self._lookback = encoder, lookback
        self._activity = VoiceActivity()
        self._voiced: deque[bool] = deque()  # of blocks that no packet has been made of
        self._held: deque[tuple[bytes, bool]] = deque()
        self._open = _HANGOVER  # blocks for which the gate stays open: the first packets are always sent
        self._since = 0  # blocks since something was sent

    def push(self, pcm: npt.ArrayLike) -> list[bytes]:
        """See `Encoder.push`."""
        samples = check_samples(pcm)
        self._voiced += self._activity.push(samples)
        return self._gate(self._encoder.push(samples))

    def flush(self) -> list[bytes]:
        """See `Encoder.flush`."""
        return [*self._gate(self._encoder.flush()), *self.release()]

    def release(self) -> list[bytes]:
        """Packets that are held back, now: for those who cannot wait for the next."""
        packets = [packet if sent else NOT_SENT for packet, sent in self._held]
        self._held.clear()
        return packets

    def _gate(self, packets: list[bytes]) -> list[bytes]:
        out: list[bytes] = []
        for packet in packets:
            sent = self._passes()
            if sent:
                self._held = deque((held, True) for held, _ in self._held)
            self._held.append((packet, sent))
            if len(self._held) > self._lookback:
                made, goes = self._held.popleft()
                out.append(made if goes else NOT_SENT)
        return out

    def _passes(self) -> bool:
        """Whether the next packet is to be sent: something is in it, or has just been."""
        blocks = self.packet_ms // 10
        sent = self._open > 0
        for _ in range(min(blocks, len(self._voiced))):
            if self._voiced.popleft():
                self._open, sent = _HANGOVER + blocks, True
        self._open -= blocks
        self._since = 0 if sent else self._since + blocks
        if self._since >= REFRESH and self._activity.background > _WORTH_SAYING:
            self._since, sent = 0, True
        return sent
