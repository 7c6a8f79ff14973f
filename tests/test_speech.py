"""Speech: alignment, rate, loss, damage, and the mel spectrogram."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfcodec.errors import BitstreamError, LimitExceeded, MediaError, TruncatedError
from tfcodec.model.logmel import log_mel
from tfcodec.speech import (
    PACKET_MS,
    PRE_SKIP,
    SAMPLE_RATE,
    SpeechDecoder,
    SpeechEncoder,
    SpeechTrack,
    bitrate_of,
    decode_speech,
    encode_speech,
    packet_duration_ms,
)

Samples = npt.NDArray[np.float32]


def voice(seconds: float, pitch: float = 120.0) -> Samples:
    """A gliding buzz with three formants and syllables: speech enough for the codec to take it for speech."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    phase = 2 * np.pi * pitch * (time - 0.06 * np.cos(2 * np.pi * 0.7 * time))
    out = np.zeros(len(time))
    for harmonic in range(1, int(6000 / pitch)):
        hertz = harmonic * pitch
        formants = ((600, 90, 1.0), (1200, 120, 0.5), (2600, 200, 0.2))
        gain = sum(g / (1 + ((hertz - f) / w) ** 2) for f, w, g in formants)
        out += gain * np.sin(harmonic * phase + harmonic**2)
    out *= 0.7 + 0.3 * np.sin(2 * np.pi * 4 * time)
    return (0.3 * out / max(1e-9, np.abs(out).max(initial=0))).astype(np.float32)


def lag(decoded: Samples, source: Samples) -> int:
    """Samples by which `decoded` comes later than `source`."""
    size = 1 << (len(source) + len(decoded)).bit_length()
    match = np.fft.irfft(np.fft.rfft(decoded, size) * np.conj(np.fft.rfft(source, size)), size)
    best = int(match.argmax())
    return best if best < size // 2 else best - size


# Alignment


@pytest.mark.parametrize("packet_ms", PACKET_MS)
@pytest.mark.parametrize("quality", [0, 5, 10])
def test_decoded_speech_is_aligned(quality: int, packet_ms: int) -> None:
    source = voice(1.337)
    decoded = decode_speech(encode_speech(source, quality, packet_ms))
    assert decoded.shape == source.shape
    assert decoded.dtype == np.float32
    assert abs(lag(decoded, source)) <= 2


@pytest.mark.parametrize("packet_ms", [20, 60, 120])
@pytest.mark.parametrize("quality", [0, 5, 10])
def test_clicks_stay_where_they_are(quality: int, packet_ms: int) -> None:
    """Short bursts at odd places, the last one in the last frame: none is 12 ms away from where it was."""
    samples = 48011
    for place in (1601, 9999, 23456, 40003, samples - 700):
        source = np.zeros(samples, np.float32)
        source[place : place + 160] = 0.8 * np.sin(2 * np.pi * 1000 * np.arange(160) / SAMPLE_RATE)
        energy = decode_speech(encode_speech(source, quality, packet_ms)).astype(np.float64) ** 2
        centre = float((energy * np.arange(samples)).sum() / energy.sum())
        assert abs(centre - (place + 79.5)) < 0.012 * SAMPLE_RATE
        assert energy[max(0, place - 400) : place + 560].sum() > 0.9 * energy.sum()


@pytest.mark.parametrize("samples", [1, 2, 159, 160, 855, 856, 857, 960, 1920, 5001])
@pytest.mark.parametrize("packet_ms", [20, 60, 120])
def test_every_length_comes_back(samples: int, packet_ms: int) -> None:
    track = encode_speech(voice(1)[:samples], 5, packet_ms)
    assert len(decode_speech(track)) == samples == track.samples
    assert len(track.packets) == -(-(samples + PRE_SKIP) // (packet_ms * 16))


def test_no_sound_and_silence() -> None:
    empty = encode_speech(np.zeros(0, np.float32))
    assert empty.packets == []
    assert decode_speech(empty).shape == (0,)
    silent = encode_speech(np.zeros(SAMPLE_RATE, np.float32))
    assert np.abs(decode_speech(silent)).max() < 1e-3
    assert sum(map(len, silent.packets)) < 400


def test_the_stream_is_the_same_in_any_portions() -> None:
    source = voice(1.5)
    whole = encode_speech(source, 5, 60)
    encoder = SpeechEncoder(bitrate_of(5), 60)
    packets: list[bytes] = []
    at = 0
    for size in (1, 7, 959, 960, 961, 0, 4000, 640, 640, 100000):
        packets += encoder.push(source[at : at + size])
        at += size
    packets += encoder.flush()
    assert packets == whole.packets
    assert encoder.flush() == []
    with pytest.raises(MediaError, match="flushed"):
        encoder.push(source)


def test_decoding_twice_gives_identical_samples() -> None:
    track = encode_speech(voice(1), 5)
    assert np.array_equal(decode_speech(track), decode_speech(track))
    assert encode_speech(voice(1), 5) == track


# Rate and quality


def test_ladder() -> None:
    rates = [bitrate_of(quality) for quality in range(11)]
    assert rates == sorted(set(rates))
    assert (rates[0], rates[-1]) == (6000, 24000)


def test_bits_rise_with_quality_and_stay_near_the_nominal_rate() -> None:
    source = voice(4)
    sizes = [sum(map(len, encode_speech(source, quality).packets)) for quality in range(11)]
    assert sizes == sorted(sizes)
    for quality, size in enumerate(sizes):
        assert 0.4 < size * 8 / 4 / bitrate_of(quality) < 1.2


def test_default_quality_is_wide_band() -> None:
    """TOC configurations 8...11 are SILK with 8 kHz of audio bandwidth (RFC 6716, table 2)."""
    assert {packet[0] >> 3 for packet in encode_speech(voice(1), 5).packets} <= {8, 9, 10, 11}
    assert {packet[0] >> 3 for packet in encode_speech(voice(1), 0).packets} <= {0, 1, 2, 3}


def test_real_speech(data_dir: Path) -> None:
    import av

    with open(data_dir / "manifest.tsv", encoding="utf-8") as file:
        rows = [line.split("\t") for line in file]
    clip = next(r[0] for r in rows if r[1] == "train" and r[5] == "audio" and r[0][0] == "d")
    with av.open(str(data_dir / "train" / clip)) as container:
        resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE)
        frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
    source = np.concatenate([frame.to_ndarray().ravel() for frame in frames])
    low, high = (decode_speech(encode_speech(source, quality)) for quality in (5, 10))
    assert abs(lag(low, source)) <= 2
    columns = len(source) // 640
    spectrum = log_mel(source, columns)
    errors = [float(np.abs(log_mel(sound, columns) - spectrum).mean()) for sound in (high, low)]
    assert errors[0] < errors[1] < 0.2


# Bad input


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(bad: float) -> None:
    source = voice(0.2)
    source[777] = bad
    with pytest.raises(MediaError, match="777"):
        encode_speech(source)


@pytest.mark.parametrize("pcm", [np.zeros((2, 100)), "speech", [[1.0]], None, 3.0])
def test_other_shapes_are_refused(pcm: Any) -> None:
    with pytest.raises(MediaError):
        encode_speech(pcm)


def test_too_loud_is_clipped() -> None:
    source = 20 * voice(0.5)
    assert encode_speech(source) == encode_speech(np.clip(source, -1, 1))
    assert np.abs(decode_speech(encode_speech(source))).max() <= 1


@pytest.mark.parametrize("quality", [-1, 11, 5.5, "5", None])
def test_other_qualities_are_refused(quality: Any) -> None:
    with pytest.raises(MediaError, match="0 to 10"):
        encode_speech(voice(0.1), quality)


@pytest.mark.parametrize(("bitrate", "packet_ms"), [(5999, 60), (24001, 60), (9000, 50), (9000, 0), ("x", 60)])
def test_other_settings_are_refused(bitrate: Any, packet_ms: Any) -> None:
    with pytest.raises(MediaError):
        SpeechEncoder(bitrate, packet_ms)


# Loss and damage


@pytest.mark.parametrize("packet_ms", PACKET_MS)
def test_lost_packets_are_concealed(packet_ms: int) -> None:
    track = encode_speech(voice(2), 5, packet_ms)
    decoder = SpeechDecoder(packet_ms)
    size = packet_ms * 16
    lost = len(track.packets) // 2
    parts = [decoder.decode(None if i == lost else packet) for i, packet in enumerate(track.packets)]
    assert all(len(part) == size for part in parts)
    clean = SpeechDecoder(packet_ms)
    expected = [clean.decode(packet) for packet in track.packets]
    assert all(np.array_equal(a, b) for a, b in zip(parts[:lost], expected[:lost], strict=True))
    assert np.abs(parts[lost]).max() > 0.01  # the voice goes on
    error = [float(np.abs(a - b).mean()) for a, b in zip(parts, expected, strict=True)]
    assert error[-1] < 0.05  # and the decoder finds back


def test_long_loss_fades_to_noise_and_loss_at_the_start_is_silent() -> None:
    track = encode_speech(voice(1), 5, 60)
    decoder = SpeechDecoder(60)
    assert np.array_equal(decoder.decode(None), np.zeros(960, np.float32))
    before = [decoder.decode(packet) for packet in track.packets[:8]][-1]
    gone = [decoder.decode(None) for _ in range(20)][-1]
    assert np.square(gone).mean() < 0.02 * np.square(before).mean()


def decodes_or_refuses(decoder: SpeechDecoder, packet: bytes) -> None:
    try:
        sound = decoder.decode(packet)
    except BitstreamError:
        return
    assert sound.dtype == np.float32
    assert len(sound) == packet_duration_ms(packet) * 16
    assert np.isfinite(sound).all()


def test_truncation_and_bit_flips() -> None:
    packet = encode_speech(voice(0.5), 5, 60).packets[3]
    decoder = SpeechDecoder()
    for length in range(len(packet)):
        decodes_or_refuses(decoder, packet[:length])
    for bit in range(8 * len(packet)):
        damaged = bytearray(packet)
        damaged[bit // 8] ^= 1 << bit % 8
        decodes_or_refuses(decoder, bytes(damaged))
    assert len(decoder.decode(packet)) == 960  # still usable


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_packets(data: bytes) -> None:
    decodes_or_refuses(SpeechDecoder(), data)


def test_every_toc_byte() -> None:
    rng = random.Random(1)
    for toc in range(256):
        decodes_or_refuses(SpeechDecoder(), bytes((toc,)) + rng.randbytes(60))
        decodes_or_refuses(SpeechDecoder(), bytes((toc, 0x02)) + rng.randbytes(60))


@pytest.mark.parametrize(
    ("packet", "milliseconds"),
    [(b"\x08\0", 20), (b"\x58\0", 60), (b"\x59\0\0", 120), (b"\x4b\x06", 120), (b"\x5b\x02", 120)],
)
def test_declared_duration(packet: bytes, milliseconds: int) -> None:
    assert packet_duration_ms(packet) == milliseconds


@pytest.mark.parametrize(
    ("packet", "error"),
    [
        (b"", TruncatedError),
        (b"\x5b", TruncatedError),  # code 3 without its count
        (b"\x5c\0", BitstreamError),  # stereo
        (b"\x5b\x03", BitstreamError),  # 180 ms
        (b"\x5b\x00", BitstreamError),  # no frame
        (b"\x58" + bytes(10000), LimitExceeded),
    ],
)
def test_packets_that_are_refused(packet: bytes, error: type[Exception]) -> None:
    with pytest.raises(error, match="speech"):
        packet_duration_ms(packet)
    with pytest.raises(error, match="speech"):
        SpeechDecoder(60).decode(packet)


def test_packets_of_another_duration_are_refused_where_it_is_fixed() -> None:
    packets = {ms: encode_speech(voice(0.3), 5, ms).packets[0] for ms in (20, 60)}
    with pytest.raises(BitstreamError, match="20 ms instead of 60"):
        SpeechDecoder(60).decode(packets[20])
    free = SpeechDecoder()
    assert len(free.decode(None)) == 960
    assert [len(free.decode(packets[ms])) for ms in (20, 60, 20)] == [320, 960, 320]
    with pytest.raises(MediaError, match="50 ms"):
        SpeechDecoder(50)


@pytest.mark.parametrize(
    "change",
    [
        {"samples": 10**12},
        {"samples": -1},
        {"samples": 1},
        {"pre_skip": 10**9},
        {"pre_skip": -1},
        {"packet_ms": 60},
        {"packet_ms": 0},
        {"packet_ms": 7},
        {"packets": []},
        {"packets": [b""] * 5},
        {"packets": [b"\xff" * 50] * 5},
    ],
)
def test_tracks_that_do_not_agree_with_themselves(change: dict[str, Any]) -> None:
    track = encode_speech(voice(0.5), 5, 120)
    assert len(track.packets) == 5
    with pytest.raises(BitstreamError, match="speech"):
        decode_speech(dataclasses.replace(track, **change))


def test_an_empty_track_holds_nothing() -> None:
    assert decode_speech(SpeechTrack([], PRE_SKIP, 0, 60)).shape == (0,)
    with pytest.raises(LimitExceeded):
        decode_speech(SpeechTrack([b"\x58\0"], PRE_SKIP, 0, 60))


# Mel spectrogram


def test_mel_bank_is_that_of_librosa() -> None:
    filters = pytest.importorskip("librosa.filters")
    from tfcodec.model.logmel import _mel_matrix

    expected = filters.mel(sr=16000, n_fft=512, n_mels=80, fmin=0.0, fmax=8000.0, norm=None)
    assert np.abs(_mel_matrix()[1] - expected.T).max() < 1e-6


def test_mel_range_and_silence() -> None:
    assert np.array_equal(log_mel(np.zeros(0, np.float32), 3), np.full((12, 80), -1, np.float32))
    assert np.array_equal(log_mel(np.zeros(6400, np.float32), 10), np.full((40, 80), -1, np.float32))
    loud = log_mel(np.ones(6400, np.float32), 10)
    assert loud.max() <= 1
    assert log_mel(voice(1), 0).shape == (0, 80)


def test_mel_level_of_a_sine() -> None:
    """A full-scale sine in the middle of a band reads 0 dB there; 45 dB less reads -1 + 45 / 45."""
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    sine = np.sin(2 * np.pi * 1000 * time).astype(np.float32)
    middle = log_mel(sine, 25)[40:60]
    assert middle.max(1) == pytest.approx(1.0, abs=0.06)
    quiet = log_mel(sine * np.float32(10 ** (-45 / 20)), 25)[40:60]
    assert quiet.max(1) == pytest.approx(0.0, abs=0.06)


@pytest.mark.parametrize("fps", [25.0, 30.0])
def test_mel_columns_belong_to_their_frames(fps: float) -> None:
    for frame in (0, 3, 11, 19):
        sound = np.zeros(SAMPLE_RATE, np.float32)
        sound[int((frame + 0.5) * SAMPLE_RATE / fps)] = 1
        level = log_mel(sound, 20, fps).mean(1)
        assert int(level.argmax()) // 4 == frame
        centre = float((np.arange(80) * (level + 1)).sum() / (level + 1).sum())
        assert abs(centre - (4 * frame + 1.5)) < 0.3


def test_mel_of_a_window_equals_mel_of_the_whole() -> None:
    sound = voice(1.2)
    whole = log_mel(sound, 30)
    for frame, count in ((5, 1), (5, 5), (20, 10)):
        first = frame * 640
        window = sound[first - 120 : first + count * 640 + 120]
        assert np.array_equal(log_mel(window, count, start=120), whole[4 * frame : 4 * (frame + count)])


@pytest.mark.parametrize(("frames", "fps"), [(-1, 25.0), (5, 0.0), (5, -25.0), (5, float("nan"))])
def test_mel_refuses_nonsense(frames: int, fps: float) -> None:
    with pytest.raises(MediaError):
        log_mel(np.zeros(100, np.float32), frames, fps)
