"""Codec2 and Lyra: the packets, their place in time, loss and damage; and what happens where they are not installed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference_indices
from test_speech import lag, voice

import tfcodec
from tfcodec import bitstream as bs
from tfcodec.cli import main
from tfcodec.codec.file.budget import STEPS, WITHOUT_LYRA
from tfcodec.codec.parts import speech
from tfcodec.errors import (
    BitstreamError,
    MediaError,
    SpeechCodecMissing,
    TfcodecError,
    TruncatedError,
    UnsupportedVersion,
    WeightsError,
)
from tfcodec.rates import SAMPLE_RATE
from tfcodec.speech import codec2, indices, lyra
from tfcodec.speech.choice import Choice, choose
from tfcodec.speech.indices import IndexDecoder, IndexEncoder

VECTORS = Path(__file__).parent / "vectors"
FRAMES = np.full((25, 256, 256, 3), 128, np.uint8)
needs_codec2 = pytest.mark.skipif(bool(codec2.missing()), reason=codec2.missing() or "-")
needs_lyra = pytest.mark.skipif(bool(lyra.missing()), reason=lyra.missing() or "-")
INSTALLED = [
    pytest.param("opus", id="opus"),
    *(pytest.param(f"codec2:{rate}", marks=needs_codec2) for rate in codec2.FRAME_MS),
    *(pytest.param(f"lyra:{rate}", marks=needs_lyra) for rate in (1600, 3200, 9200)),
]


def chosen(name: str) -> Choice:
    choice = choose(name, 5)
    assert choice is not None
    return choice


def stream(name: str, seconds: float = 1.0) -> bytes:
    return tfcodec.encode(
        FRAMES, audio=voice(seconds), sample_rate=SAMPLE_RATE, fps=25, crop="none", refine=False, motion=False,
        speech=name,
    )  # fmt: skip


def envelope(sound: Any) -> Any:
    smooth = np.convolve(np.abs(sound), np.ones(160) / 160, "same")
    return smooth - smooth.mean()


# Indices


def some_indices(quantisers: int, frames: int, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    slow = rng.integers(0, 16, quantisers)
    return np.where(rng.random((frames, quantisers)) < 0.5, rng.integers(0, 16, (frames, quantisers)), slow)


@pytest.mark.parametrize(
    ("quantisers", "packet", "frames"), [(16, 2, 2), (1, 1, 1), (46, 5, 5), (12, 250, 9), (30, 9, 8)]
)
def test_indices_come_back_and_an_independent_decoder_agrees(quantisers: int, packet: int, frames: int) -> None:
    values = some_indices(quantisers, frames)
    data = IndexEncoder(quantisers, packet).encode(values)
    assert data
    assert np.array_equal(IndexDecoder(quantisers, packet).decode(data), values)
    assert reference_indices.decode(data, quantisers, packet) == values.tolist()


def test_vectors() -> None:
    content = json.loads((VECTORS / "lyra_indices.json").read_text())
    assert content["tables"] == indices.TABLES_SHA256
    for row in content["packets"]:
        values, data = np.array(row["indices"]), bytes.fromhex(row["packet"])
        assert IndexEncoder(values.shape[1], row["packet_frames"]).encode(values) == data, row["name"]
        assert np.array_equal(IndexDecoder(values.shape[1], row["packet_frames"]).decode(data), values), row["name"]
        assert reference_indices.decode(data, values.shape[1], row["packet_frames"]) == row["indices"], row["name"]


def test_no_packet_is_empty_or_much_longer_than_its_indices() -> None:
    encoder = IndexEncoder(16, 3)
    expectation = indices.Expectation(indices.load_tables(), 16)
    for pick in (max, min):  # what is expected most, and least, all the way
        values = []
        for _ in range(48):
            weights = expectation.weights()
            values.append(weights.index(pick(weights)))
            expectation.take(values[-1])
        data = encoder.encode(np.array(values).reshape(3, 16))
        assert 1 <= len(data) <= 24 + 3
        assert np.array_equal(IndexDecoder(16, 3).decode(data).ravel(), values)
    assert IndexEncoder(1, 250).encode(np.zeros((1, 1), int)) != b""


def test_damaged_packets_are_refused_or_give_other_indices_and_nothing_else() -> None:
    values = some_indices(16, 6)
    data = IndexEncoder(16, 6).encode(values)
    decoder = IndexDecoder(16, 6)
    rng = np.random.default_rng(1)
    refused = 0
    for trial in range(150):
        damaged = bytearray(data)
        for _ in range(rng.integers(1, 4)):
            damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        if trial % 3 == 0:
            damaged = damaged[: rng.integers(len(damaged))]
        elif trial % 3 == 1:
            damaged += rng.bytes(int(rng.integers(1, 40)))
        try:
            got = decoder.decode(bytes(damaged))
        except BitstreamError:
            refused += 1
        else:
            assert got.dtype == np.uint8
            assert 1 <= len(got) <= 6
            assert got.max() < 16
    assert refused > 20
    assert np.array_equal(decoder.decode(data), values)
    with pytest.raises(TruncatedError):
        decoder.decode(b"")


def test_a_short_packet_says_so_only_if_it_is_one() -> None:
    short = IndexEncoder(4, 9).encode(some_indices(4, 5))
    assert len(IndexDecoder(4, 9).decode(short)) == 5
    with pytest.raises(BitstreamError, match="R71"):
        IndexDecoder(4, 4).decode(short)
    with pytest.raises(BitstreamError, match="R71"):
        IndexDecoder(4, 5).decode(short)


@pytest.mark.parametrize("shape", [(3, 16), (0, 16), (1, 9), (16,)])
def test_what_are_no_indices(shape: tuple[int, ...]) -> None:
    with pytest.raises(MediaError):
        IndexEncoder(16, 2).encode(np.zeros(shape, int))
    with pytest.raises(MediaError):
        IndexEncoder(16, 2).encode(np.full((1, 16), 16))


def test_the_tables_file_is_checked() -> None:
    data = indices.content()
    assert indices.write_tables(indices.parse_tables(data)) == data
    with pytest.raises(WeightsError):
        indices.parse_tables(data[:-1])
    indices.check_tables(1, indices.tables_hash())
    for other in ((2, indices.tables_hash()), (1, b"abcd")):
        with pytest.raises(UnsupportedVersion, match="R70"):
            indices.check_tables(*other)


# Header


@pytest.mark.parametrize("name", ["opus", "codec2:1300", "lyra:3200"])
@pytest.mark.parametrize("packet_ms", [40, 80])
def test_the_header_says_which_codec(name: str, packet_ms: int) -> None:
    choice = Choice.named(name, 5)
    audio = speech.audio_config(choice, packet_ms, 0)
    chunk, _ = bs.parse_chunk(bs.StreamHeader(audio=audio).to_bytes(), 0)
    assert isinstance(chunk, bs.StreamHeader)
    assert chunk.audio == audio
    assert speech.chosen(audio).name == choice.name
    assert name == "opus" or speech.chosen(audio) == choice


@pytest.mark.parametrize(
    ("audio", "rule"),
    [
        (b"\x04\x02\x10\x00\x00", "R19"), (b"\x02\x02\x11\x00\x00", "R19"), (b"\x03\x02\x00\x01abcd\x00\x00", "R19"),
        (b"\x03\x02\x2f\x01abcd\x00\x00", "R19"), (b"\x02\x00\x20\x00\x00", "R20"), (b"\x02\x7e\x0c\x00\x00", "R20"),
        (b"\x02\xfb\x20\x00\x00", "R20"), (b"\x03\x00\x10\x01abcd\x00\x00", "R20"), (b"\x03\x02\x10\x01abc", "R10"),
    ],
)  # fmt: skip
def test_headers_that_are_refused(audio: bytes, rule: str) -> None:
    whole = bs.StreamHeader(audio=bs.AudioConfig()).to_bytes()
    plain = bs.StreamHeader().to_bytes()
    payload = bytearray(plain[2:-4] + audio)
    payload[1] |= 4
    from tfcodec.bitstream.framing import build_chunk

    assert build_chunk(0xC1, bytes(payload[: -len(audio)]) + bs.AudioConfig().to_bytes()) == whole
    with pytest.raises(BitstreamError, match=rule):
        bs.parse_chunk(build_chunk(0xC1, bytes(payload)), 0)


# Sound


@pytest.mark.parametrize("name", INSTALLED)
def test_onsets_come_back_within_20_ms(name: str) -> None:
    """Five bursts of speech with silence between: each begins where it began."""
    choice = chosen(name)
    gaps = (0.31, 0.27, 0.43, 0.35, 0.29)
    burst = voice(0.25, 140.0) * np.float32(1.5)
    parts, starts = [], []
    for gap in gaps:
        parts += [np.zeros(round(gap * SAMPLE_RATE), np.float32), burst]
        starts.append(sum(map(len, parts)) - len(burst))
    sound = np.concatenate([*parts, np.zeros(8000, np.float32)])
    for packet_ms in (40, choice.file_packet_ms) if name == "lyra:3200" else (40,):
        encoder, decoder = choice.encoder(packet_ms), choice.decoder(packet_ms)
        packets = encoder.push(sound) + encoder.flush()
        decoded = np.concatenate([decoder.decode(packet) for packet in packets])[choice.pre_skip :][: len(sound)]
        assert len(decoded) == len(sound)
        assert abs(lag(envelope(decoded), envelope(sound))) <= 0.02 * SAMPLE_RATE
        loud = np.convolve(np.abs(decoded), np.ones(80) / 80, "same")
        for start in starts:
            around = loud[start - 2400 : start + 2400]
            onset = int(np.argmax(around > 0.3 * around.max())) - 2400
            assert abs(onset) <= 0.03 * SAMPLE_RATE, (packet_ms, start, onset)


@pytest.mark.parametrize("name", INSTALLED)
def test_lost_packets_leave_no_gap_and_fade(name: str) -> None:
    choice = chosen(name)
    encoder, decoder = choice.encoder(40), choice.decoder(40)
    packets = encoder.push(voice(1.0)) + encoder.flush()
    assert np.abs(decoder.decode(None)).max() < 0.01  # before the first
    before = [decoder.decode(packet) for packet in packets[:10]]
    lost = [decoder.decode(None) for _ in range(12)]
    after = [decoder.decode(packet) for packet in packets[10:]]
    assert {len(part) for part in before + lost + after} == {640}
    assert np.abs(lost[0]).max() > 0.1 * np.abs(before[-1]).max()  # something is heard at once ...
    if name != "opus":
        assert np.abs(lost[-1]).max() < 0.02  # ... and nothing for long
    assert np.abs(after[-3]).max() > 0.05


@pytest.mark.parametrize("name", INSTALLED)
def test_digital_silence_stays_silent(name: str) -> None:
    choice = chosen(name)
    encoder, decoder = choice.encoder(40), choice.decoder(40)
    packets = encoder.push(np.zeros(16000, np.float32)) + encoder.flush()
    sound = np.abs(np.concatenate([decoder.decode(packet) for packet in packets]))
    # Codec2 fills its frames from a random generator that goes on from decoding to decoding. Of 300 decodings the first
    # frame's rms was at most 0.0015, its peak 0.0056; later ones' rms 0.0008, below what counts as silence (0.0012).
    begins = sound[:3200]
    assert np.sqrt(np.square(begins).mean()) < 0.002
    assert begins.max() < (0.02 if name.startswith("codec2") else 0.005)
    assert sound[3200:].max() < 0.002


@needs_codec2
@pytest.mark.parametrize("rate", codec2.FRAME_MS)
def test_codec2_packets(rate: int) -> None:
    encoder = codec2.Codec2Encoder(rate, 80)
    packets = encoder.push(voice(1.0)) + encoder.flush()
    frames = 80 // codec2.FRAME_MS[rate]
    assert {len(packet) for packet in packets} == {codec2.packet_bytes(rate, frames)}
    assert 8 * len(packets[0]) < rate * 0.08 + 8
    decoder = codec2.Codec2Decoder(rate, frames)
    for bad in (b"", packets[0][:-1], packets[0] + b"\0"):
        with pytest.raises(BitstreamError, match="R69"):
            decoder.decode(bad)
    if codec2.frame_bits(rate) * frames % 8:
        with pytest.raises(BitstreamError, match="R69"):
            decoder.decode(packets[0][:-1] + bytes([packets[0][-1] | 1]))
    spectrum = np.abs(np.fft.rfft(np.concatenate([decoder.decode(packet) for packet in packets])[2000:14000]))
    low, high = spectrum[:3000].sum(), spectrum[3100:].sum()  # below and above 4 kHz
    assert high < 0.02 * low


@needs_lyra
def test_lyra_s_indices_are_nested_and_a_new_encoder_begins_anew() -> None:
    sound = voice(0.4)
    few, many = lyra.LyraEncoder(16, 400, 0), lyra.LyraEncoder(30, 400, 0)
    first = IndexDecoder(16, 20).decode(few.push(sound)[0])
    assert np.array_equal(first, IndexDecoder(30, 20).decode(many.push(sound)[0])[:, :16])
    assert np.array_equal(first, IndexDecoder(16, 20).decode(lyra.LyraEncoder(16, 400, 0).push(sound)[0]))


@needs_lyra
def test_lyra_s_own_quantiser_finds_the_nearest_too() -> None:
    encoder, sound = lyra.LyraEncoder(20, 400, 0), voice(0.4)
    features = np.stack([encoder._frame(frame) for frame in sound.reshape(20, lyra.FRAME)])
    own = lyra._interpreter("quantizer.tflite").get_signature_runner("encode")
    said = [own(input_frames=f.reshape(1, 1, -1), num_quantizers=np.int32(20))["output_0"][:20, 0, 0] for f in features]
    assert np.array_equal(IndexEncoder(20, 20).find(features, lyra.codebooks(), 0.0), np.stack(said))


@pytest.mark.parametrize("quantisers", [8, 20])
def test_a_price_for_bits_saves_some(quantisers: int) -> None:
    rng = np.random.default_rng(4)
    books = rng.normal(0, 0.8 ** np.arange(46)[:, None, None], (46, 16, 12))
    features = rng.normal(0, 2, (50, 12))
    encoder, reader = IndexEncoder(quantisers, 50), IndexDecoder(quantisers, 50)
    sizes, distances = [], []
    for price in (0.0, 1.0, 1e9):
        found = encoder.find(features, books, price)
        packet = encoder.encode(found)
        assert np.array_equal(reader.decode(packet), found)
        sizes.append(len(packet))
        rest = features - sum(books[at][found[:, at]] for at in range(quantisers))
        distances.append(np.square(rest).sum(1).mean())
    nearest = features.copy()
    for row in nearest:
        for at in range(quantisers):
            row -= books[at][np.square(row - books[at]).sum(1).argmin()]
    assert distances[0] == pytest.approx(np.square(nearest).sum(1).mean(), rel=1e-3)
    assert sizes[0] > sizes[1] > 2 * sizes[2]
    assert distances[0] < distances[1] < distances[2]


@needs_lyra
@pytest.mark.skipif("TFCODEC_DATA" not in os.environ, reason="TFCODEC_DATA is not set")
def test_contexts_save_an_eighth_of_lyra_s_bits_on_unseen_speech() -> None:
    from tfcodec.training.lyra import _sound

    sound = _sound(Path(os.environ["TFCODEC_DATA"]) / "val" / "d044_00.mp4")[: 3 * SAMPLE_RATE]
    if not len(sound):
        pytest.skip("the clip has no sound")
    for packet_ms, most in ((5000, 2800), (40, 3000)):
        encoder = lyra.LyraEncoder(16, packet_ms)
        packets = encoder.push(sound) + encoder.flush()
        assert 8 * sum(map(len, packets)) / (len(sound) / SAMPLE_RATE) <= most


# Files and calls


@pytest.mark.parametrize("name", INSTALLED)
def test_files(name: str) -> None:
    data = stream(name)
    info = tfcodec.probe(data)
    assert info.speech == chosen(name).label
    assert info.kbps == pytest.approx(info.video_kbps + info.audio_kbps)
    clip = tfcodec.decode(data, pixels=False)
    assert clip.audio is not None
    assert not clip.speech_missing
    assert len(clip.audio) == SAMPLE_RATE
    assert abs(lag(envelope(clip.audio), envelope(voice(1.0)))) <= 0.02 * SAMPLE_RATE


@pytest.mark.parametrize("name", INSTALLED)
def test_calls_with_losses(name: str) -> None:
    sound = voice(2.0)
    sender, receiver = tfcodec.Encoder(speech=name, motion=False), tfcodec.Decoder()
    rng, heard = np.random.default_rng(3), []
    for t in range(50):
        for packet in sender.push(FRAMES[0], sound[640 * t : 640 * t + 640]):
            if packet.keyframe or rng.random() > 0.1:
                receiver.push(packet)
        receiver.pull(draw=False)
        heard.append(receiver.pull_audio())
        for packet in sender.push_feedback(receiver.feedback() or b""):
            receiver.push(packet)
    loud = [np.sqrt(np.square(part).mean()) for part in heard[10:]]  # a codec takes a moment to begin
    assert min(loud) > 0.005  # nowhere a gap
    assert not receiver.speech_missing


def test_none_leaves_the_sound_out() -> None:
    info = tfcodec.probe(stream("none"))
    assert not info.has_audio
    assert info.speech == ""
    sender = tfcodec.Encoder(speech="none", motion=False)
    assert not any(packet.parts.get("speech") for packet in sender.push(FRAMES[0], voice(0.04)))


@pytest.mark.parametrize("bad", ["mp3", "opus:5999", "codec2:700", "lyra:100", "lyra:9400", "lyra:x", "none:1", "", 5])
def test_what_is_no_speech_codec(bad: Any) -> None:
    with pytest.raises(MediaError):
        choose(bad, 5)


def test_auto_is_opus_bit_for_bit() -> None:
    assert stream("auto") == stream("opus")


# Without the codecs


def hide(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if neither library were installed."""
    import importlib.util

    found = importlib.util.find_spec
    gone = ("pycodec2", "ai_edge_litert")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in gone else found(name, *rest))
    monkeypatch.setitem(sys.modules, "pycodec2", None)


def silent_stream(name: str) -> bytes:
    """A stream of a codec that need not be here: all its packets are missing ones."""
    plain = bs.read_stream(stream("none"))
    audio = speech.audio_config(Choice.named(name, 5), 40, SAMPLE_RATE)
    header = bs.StreamHeader(25, plain.header.model_id, plain.header.model_hash, audio=audio)
    rest = [chunk for chunk in plain.chunks if not isinstance(chunk, bs.StreamHeader)]
    sound = bs.SpeechChunk(0, (b"",) * speech.packets_for(audio, SAMPLE_RATE))
    return bs.write_signature() + b"".join(chunk.to_bytes() for chunk in (header, *rest, sound))


@pytest.mark.parametrize("name", ["codec2:1200", "lyra:3200"])
def test_pictures_without_the_codec(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = silent_stream(name)
    hide(monkeypatch)
    clip = tfcodec.decode(data, pixels=False)
    assert clip.audio is None
    assert len(clip.tiny) == 25
    assert f"pip install 'tfcodec[{name.split(':')[0]}]'" in clip.speech_missing
    assert "\n" not in clip.speech_missing
    path, out = tmp_path / "a.tfc", tmp_path / "a.mp4"
    path.write_bytes(data)
    assert main(["decode", str(path), str(out), "--coarse", "--quiet"]) == 0
    assert "without sound" in capsys.readouterr().err
    assert main(["verify", str(path)]) == 0
    assert "not checked" in capsys.readouterr().out
    with pytest.raises(SpeechCodecMissing, match="pip install"):
        tfcodec.Encoder(speech=name)


def test_calls_without_the_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    sender = tfcodec.Encoder(motion=False)
    packets = [packet for t in range(6) for packet in sender.push(FRAMES[0], voice(0.24)[640 * t : 640 * t + 640])]
    receiver = tfcodec.Decoder()
    monkeypatch.setattr(Choice, "decoder", lambda *_: (_ for _ in ()).throw(SpeechCodecMissing("get it there")))
    for packet in packets:
        receiver.push(packet)
    receiver.pull(draw=False)
    assert receiver.position is not None
    assert receiver.speech_missing == "get it there"
    assert not receiver.pull_audio().any()


def test_doctor_checks_lyra_s_files(tmp_path: Path) -> None:
    (tmp_path / "quantizer.tflite").write_bytes(b"other")
    assert "cannot be read" in lyra.check_folder(str(tmp_path))
    for name in lyra.FILES:
        (tmp_path / name).write_bytes(b"other")
    lyra.check_folder.cache_clear()
    assert "is not Lyra's" in lyra.check_folder(str(tmp_path))


@needs_lyra
def test_doctor_with_a_folder(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from tfcodec import doctor

    folder = os.environ[lyra.FOLDER]
    monkeypatch.delenv(lyra.FOLDER)
    assert "TFCODEC_LYRA must name" in lyra.missing()
    assert f"set {lyra.FOLDER}={folder}" in doctor._lyra(folder)
    assert lyra.FOLDER not in os.environ


# One budget


def test_the_ladders_go_down() -> None:
    for ladder in (STEPS, WITHOUT_LYRA):
        for name in ("opus", "codec2", "lyra"):
            qualities = [quality for quality, speech in ladder if speech.startswith(name)]
            assert qualities == sorted(qualities, reverse=True)
        rates = [Choice.named(name, quality).bit_rate for quality, name in ladder]
        assert rates == sorted(rates, reverse=True)


def test_a_budget_is_kept_and_used() -> None:
    def within(kbps: float, **more: Any) -> tfcodec.StreamInfo:
        clip, sound = np.tile(FRAMES, (2, 1, 1, 1)), voice(2.0)
        options: dict[str, Any] = {"fps": 25, "crop": "none", "refine": False, "motion": False, **more}
        return tfcodec.probe(tfcodec.encode(clip, audio=sound, sample_rate=SAMPLE_RATE, kbps=kbps, **options))

    rich = within(11.0)
    assert rich.speech == "Opus"
    assert 8.0 < rich.kbps <= 11.0
    if not (lyra.missing() and codec2.missing()):
        poor = within(4.0)
        assert poor.kbps <= 4.0
        assert poor.speech.startswith("Codec2" if lyra.missing() else "Lyra")


def test_budgets_that_cannot_be_kept() -> None:
    budgets: tuple[dict[str, Any], ...] = ({"kbps": 0.3}, {"kbps": -1.0}, {"kbps": 5.0, "quality": 3})
    for more in budgets:
        with pytest.raises(TfcodecError, match=r"not enough|positive|one of them"):
            tfcodec.encode(FRAMES[:2], fps=25, crop="none", refine=False, motion=False, **more)
