"""A whole stream within a budget of bits: quality and speech codec found by encoding, or by what is typical."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ...bitstream import SpeechChunk
from ...errors import MediaError, TfcodecError
from ...rates import FPS
from ...speech.choice import Choice
from .. import typical
from ..frames import Frame
from ..options import EncodeOptions
from ..parts import speech as speech_part
from ..parts.speech import Silence
from .encoder import SPEECH_MS, Progress, encode_clip
from .info import describe_bytes

STEPS: tuple[tuple[int, str], ...] = (
    *((quality, "opus") for quality in range(10, 4, -1)),
    (5, "lyra:6000"), (5, "lyra:3600"), (4, "lyra:3600"), (3, "lyra:2600"), (2, "lyra:2600"), (1, "lyra:1800"),
    (0, "lyra:1800"),
)  # fmt: skip
"""Quality and speech, from the most bits to the fewest: what is seen and what is heard become worse together. With Lyra
Opus' narrow-band rates are left out: it is better in every measure at half the bits."""
WITHOUT_LYRA: tuple[tuple[int, str], ...] = (
    *((quality, "opus") for quality in range(10, -1, -1)),
    (4, "codec2:2400"), (3, "codec2:1600"), (2, "codec2:1300"), (1, "codec2:1200"), (0, "codec2:1200"),
)  # fmt: skip

Step = tuple[int, Choice | None]


def steps(speech: str | Choice, has_sound: bool) -> list[Step]:
    """What may be chosen from, from the most bits to the fewest. Raises SpeechCodecMissing for a codec asked for."""
    if not has_sound or speech != "auto":
        return [(q, EncodeOptions(q, speech=speech).voice() if has_sound else None) for q in range(10, -1, -1)]
    for ladder in (STEPS, WITHOUT_LYRA):
        found = [(quality, choice) for quality, choice in _choices(ladder) if not choice.missing()]
        if len(found) == len(ladder):
            return list(found)
    return [(quality, choice) for quality, choice in _choices(WITHOUT_LYRA) if choice.name == "opus"]


def encode_within(
    kbps: float,
    frames: Callable[[], Iterator[Frame]],
    count: int,
    audio: NDArray[np.float32] | None,
    options: EncodeOptions,
    progress: Progress | None = None,
) -> bytes:
    """The best stream of at most so many kbit/s in all.

    Args:
        kbps: kilobits (1000 bits) per second.
        frames: gives the clip's frames from the first on, each time it is called.
        count: how many there are.
        audio: its speech, [n] float32 at 16 kHz, or None.
        options: how to encode; the quality is found, and the speech codec, too, where it is "auto".
        progress: as for `tfcodec.encode`.

    Raises:
        TfcodecError: the fewest bits that there can be are more; the message says how many.
    """
    check_kbps(kbps)
    ladder = steps(options.speech, audio is not None)
    if not count:
        raise MediaError("the source has no frames")
    budget = kbps * 1000 / 8 * count / FPS

    @cache
    def video_bytes(quality: int) -> int:
        return len(encode_clip(frames(), None, replace(options, quality=quality, refine=False), count))

    @cache
    def speech_bytes(choice: Choice | None) -> int:
        return 0 if choice is None or audio is None else _speech_bytes(choice, audio, options.silence)

    def expected(step: Step) -> int:
        return video_bytes(step[0]) + speech_bytes(step[1])

    low, high = 0, len(ladder)
    while low < high:
        middle = (low + high) // 2
        if expected(ladder[middle]) <= budget:
            high = middle
        else:
            low = middle + 1
    # Refining changes the bits a little, to either side: what is too long after it is taken a step down.
    smallest = float("inf")
    for quality, choice in ladder[min(low, len(ladder) - 1) :]:
        voiced = replace(options, quality=quality, speech="none" if choice is None else choice)
        data = encode_clip(frames(), audio, voiced, count, progress)
        if len(data) <= budget:
            return data
        smallest = min(smallest, describe_bytes(data).kbps)
    raise TfcodecError(f"{kbps:g} kbit/s are not enough: the fewest bits for this clip are {smallest:.2f} kbit/s")


def expect_within(kbps: float, latency: typical.Latency, speech: str, has_sound: bool) -> tuple[int, Choice | None]:
    """The best quality and speech codec that typically take at most so many kbit/s in all.

    Raises:
        TfcodecError: the fewest bits that there can be are more; the message says how many.
        SpeechCodecMissing: the codec asked for is not installed.
    """
    check_kbps(kbps)
    ladder = steps(speech, has_sound)
    rates = [typical.video_kbps(quality, latency) + typical.speech_kbps(choice, latency) for quality, choice in ladder]
    for rate, step in zip(rates, ladder, strict=True):
        if rate <= kbps:
            return step
    codec = ladder[-1][1]
    least = f"the fewest bits of a {latency} with {codec.label if codec else 'no speech'}"
    raise TfcodecError(f"{kbps:g} kbit/s are not enough: {least} are typically {rates[-1]:.1f} kbit/s")


def check_kbps(kbps: float) -> None:
    """Raises TfcodecError unless it is a budget in kbit/s."""
    if isinstance(kbps, bool) or not isinstance(kbps, int | float) or not 0 < kbps < float("inf"):
        raise TfcodecError(f"kbps must be a positive number, not {kbps!r}")


def _choices(ladder: tuple[tuple[int, str], ...]) -> list[tuple[int, Choice]]:
    return [(quality, Choice.named(speech, quality)) for quality, speech in ladder]


def _speech_bytes(choice: Choice, audio: NDArray[np.float32], silence: Silence) -> int:
    encoder = speech_part.encoder(choice, choice.file_packet_ms, silence, lookback=1)
    packets = encoder.push(audio) + encoder.flush()
    size = SPEECH_MS // choice.file_packet_ms
    groups = [tuple(packets[i : i + size]) for i in range(0, len(packets), size)]
    return sum(len(SpeechChunk(i * size, group).to_bytes()) for i, group in enumerate(groups))
