"""The functions for files: `encode`, `decode`, `decode_to`, `open`, `probe`."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, Literal, overload

from .arguments import path, whole
from .errors import LimitExceeded, MediaError, TfcodecError
from .files import check_place, refuse_same, write_atomically, write_to

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from .codec.file.reader import Reader
    from .codec.parts.speech import Silence
    from .codec.results import Clip, DrawnClip, StreamInfo
    from .runtime import Runtime

Progress = Callable[[int, int], None]
Target = str | os.PathLike[str] | BinaryIO
Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
MAX_STREAM_BYTES = 1 << 30


@overload
def encode(
    source: Source | NDArray[np.uint8], out: None = None, *, audio: ArrayLike | None = None,
    sample_rate: int | None = None, fps: float | None = None, quality: int | None = None,
    crop: Literal["auto", "none"] = "auto", refine: bool = True, motion: bool = True, speech: str = "auto",
    inter_keyframes: bool = True, silence: Silence = "gate", kbps: float | None = None,
    progress: Progress | None = None, strict: bool = False, warn: Callable[[str], None] | None = None,
    device: str = "cpu",
) -> bytes: ...  # fmt: skip
@overload
def encode(
    source: Source | NDArray[np.uint8], out: Target, *, audio: ArrayLike | None = None,
    sample_rate: int | None = None, fps: float | None = None, quality: int | None = None,
    crop: Literal["auto", "none"] = "auto", refine: bool = True, motion: bool = True, speech: str = "auto",
    inter_keyframes: bool = True, silence: Silence = "gate", kbps: float | None = None,
    progress: Progress | None = None, strict: bool = False, warn: Callable[[str], None] | None = None,
    device: str = "cpu",
) -> StreamInfo: ...  # fmt: skip
def encode(
    source: Source | NDArray[np.uint8],
    out: Target | None = None,
    *,
    audio: ArrayLike | None = None,
    sample_rate: int | None = None,
    fps: float | None = None,
    quality: int | None = None,
    crop: Literal["auto", "none"] = "auto",
    refine: bool = True,
    motion: bool = True,
    speech: str = "auto",
    inter_keyframes: bool = True,
    silence: Silence = "gate",
    kbps: float | None = None,
    progress: Progress | None = None,
    strict: bool = False,
    warn: Callable[[str], None] | None = None,
    device: str = "cpu",
) -> bytes | StreamInfo:
    """Encode a talking-face video.

    Args:
        source: path of a video, its bytes, a binary file object, or pictures [T, H, W, 3] uint8 RGB (then ``fps``).
        out: where to write the stream, a path or a binary file object. A file appears there only when it is complete,
            and takes the place of one that is there.
        audio: speech for pictures given as an array, or in place of a file's own: [n] or [n, channels], float in -1..1
            or int16.
        sample_rate: of ``audio``, in Hz.
        fps: frame rate of pictures given as an array. The stream always has 25 frames per second; time is kept.
        quality: 0 (fewest bits) to 10; None: 5, or what fits ``kbps``.
        crop: ``"auto"`` finds the face and keeps a steady square around it; ``"none"`` takes the centre square. A
            256x256 source is taken as it is.
        refine: look at what the network will draw: choose the tiny frames that it draws best from, in place of box
            means, and say how far its pictures are displaced (in about 4 bits a frame). False is up to three times as
            fast and costs half a dB to one.
        motion: say how the face moves, in about 10 bits a frame. Without it mouth and eyes hardly move, since 8x8
            pixels cannot show them. With neither ``refine`` nor ``motion`` encoding needs no network.
        inter_keyframes: code later keyframes as differences from the one before, where that is cheaper. Readers from
            before that refuse such streams.
        silence: ``"gate"`` leaves out speech packets in which nobody speaks; decoders make noise like that of the
            pause. ``"send"`` sends them all.
        speech: codec of the speech: ``"opus"``, ``"codec2"`` or ``"lyra"``, at the rate that goes with the quality, or
            at one in bit/s: ``"lyra:2400"``. ``"auto"`` is Opus, which needs nothing installed, unless ``kbps`` asks
            for fewer bits; ``"none"`` leaves the sound out.
        kbps: the whole stream, speech and all, in kbit/s at most: quality and speech codec are found to fit, among the
            codecs that are installed. It takes a few encodings, most of them without ``refine``.
        progress: called with (frames done, frames in all).
        strict: make an error of what would be a warning.
        warn: called with each warning: what could be read, but not as it was meant (see docs/inputs.md).
        device: where the networks compute, the face finder's included: ``"cpu"``, ``"cuda"`` (also ``"cuda:1"``),
            ``"mps"``, or ``"auto"``: CUDA where there is such a card, else the processor (see docs/devices.md).

    Returns:
        The stream's bytes, or with ``out`` its StreamInfo, which lists the ``warnings``.

    Raises:
        NoFaceError: ``crop="auto"`` found no face.
        MediaError: the source cannot be read or has no frames, the sound is of another type or shape, or not finite, or
            ``out`` cannot be written.
        SpeechCodecMissing: the speech codec is not installed.
        WeightsError: with ``refine`` or ``motion``, if the network's weights are not there.
        TfcodecError: an argument is out of range, or there is no such device.
    """
    from dataclasses import replace

    from .codec.file.budget import encode_within
    from .codec.file.encoder import encode_clip
    from .codec.options import EncodeOptions
    from .media import open_source
    from .model.device import find_device

    if kbps is not None and quality is not None:
        raise TfcodecError("quality and kbps are two ways to say the same: give one of them")
    options = EncodeOptions(5 if quality is None else quality, refine, motion, speech, inter_keyframes, silence, device)
    if out is not None and not isinstance(out, str | os.PathLike) and not hasattr(out, "write"):
        raise TfcodecError(f"out must be a path or a binary file object, not {type(out).__name__}")
    refuse_same(source, out)
    if isinstance(out, str | os.PathLike):
        check_place(out)
    _refuse_stream(source)
    with open_source(
        source, audio=audio, sample_rate=sample_rate, fps=fps, crop=crop, strict=strict, warn=warn,
        device=find_device(device) if crop == "auto" else "cpu",
    ) as clip:
        if kbps is not None:
            data = encode_within(kbps, clip.frames_iter, clip.frame_count, clip.audio, options, progress)
        else:
            sound = None if options.voice() is None else clip.audio
            data = encode_clip(clip.frames_iter(), sound, options, clip.frame_count_hint, progress)
        warnings = tuple(clip.warnings)
    if out is None:
        return data
    if isinstance(out, str | os.PathLike):
        write_atomically(out, data)
    else:
        write_to(out, data)
    return replace(probe(data), warnings=warnings)


@overload
def decode(
    source: Source, *, errors: Literal["raise", "conceal"] = "raise", pixels: Literal[True] = True, fast: bool = False,
    progress: Progress | None = None, max_frames: int | None = None, network: str | None = None, device: str = "cpu",
    batch: int | None = None, runtime: Runtime = "torch",
) -> DrawnClip: ...  # fmt: skip
@overload
def decode(
    source: Source, *, errors: Literal["raise", "conceal"] = "raise", pixels: bool, fast: bool = False,
    progress: Progress | None = None, max_frames: int | None = None, network: str | None = None, device: str = "cpu",
    batch: int | None = None, runtime: Runtime = "torch",
) -> Clip: ...  # fmt: skip
def decode(
    source: Source,
    *,
    errors: Literal["raise", "conceal"] = "raise",
    pixels: bool = True,
    fast: bool = False,
    progress: Progress | None = None,
    max_frames: int | None = None,
    network: str | None = None,
    device: str = "cpu",
    batch: int | None = None,
    runtime: Runtime = "torch",
) -> Clip:
    """Decode a stream, all at once; `open` gives frame after frame, in memory that does not grow with the length.

    Args:
        source: path, bytes or binary file object.
        errors: ``"raise"`` refuses a damaged stream; ``"conceal"`` carries on past damaged packets and lists them in
            ``clip.damaged``.
        pixels: False leaves out the network: ``clip.frames`` is None, everything else is there.
        fast: draw in bfloat16 where the processor has it, in less than half of the time; pixels move by a grey level
            or two.
        progress: called with (frames done, frames in all).
        max_frames: frames to decode at most, each of which takes 192 KiB; None: 15 000 (10 minutes, 2.7 GiB), without
            pixels any number.
        network: which network draws: None for the one that the stream names, ``"light"`` for one that may stand in for
            it, for a quarter of the arithmetic (see docs/light.md). ``clip.network`` says which it was.
        device: where to draw: ``"cpu"``, ``"cuda"`` (also ``"cuda:1"``), ``"mps"``, or ``"auto"``: CUDA where there is
            such a card, else the processor (see docs/devices.md). Everything but the pictures is the same anywhere.
        batch: frames to draw together; None: 8, on a graphics card 64.
        runtime: what draws: ``"torch"``, or ``"ncnn"``, which starts sooner and needs less than half the memory (extra
            ``fast``; see docs/runtime.md). Pictures are the same but for a grey level here and there.

    Returns:
        A DrawnClip, whose ``frames`` are [T, 256, 256, 3] uint8; with ``pixels=False`` a Clip without.

    Raises:
        TfcodecError: an argument is out of range.
        BitstreamError: the stream is malformed or damaged (its subclasses say how).
        LimitExceeded: it has more than ``max_frames``; the message says how many.
        WeightsError: the stream names a network that is not installed (use ``pixels=False``), or ``network`` is none
            that may stand in for it.
        MediaError: the file cannot be read.
    """
    from .codec.file.decoder import read_clip

    if max_frames is not None:
        max_frames = whole("max_frames", max_frames, 1)
    reader = open(
        source, errors=errors, pixels=pixels, fast=fast, network=network, device=device, batch=batch, runtime=runtime
    )
    return read_clip(reader, pixels=pixels, progress=progress, max_frames=max_frames)


def open(
    source: Source,
    *,
    errors: Literal["raise", "conceal"] = "raise",
    pixels: bool = True,
    fast: bool = False,
    coarse: bool = False,
    network: str | None = None,
    device: str = "cpu",
    batch: int | None = None,
    runtime: Runtime = "torch",
) -> Reader:
    """Open a stream, to decode it frame by frame.

    Args:
        source: path, bytes or binary file object.
        errors: as for `decode`; what is damaged is listed in the reader's ``damaged`` as it is come upon.
        pixels: False leaves out the network: frames' ``pixels`` are None, everything else is there.
        fast, network, device, batch: as for `decode`; the reader's ``network`` says which it is.
        coarse: give stage 1's 64x64 pictures instead of 256x256 ones.
        runtime: as for `decode`.

    Returns:
        A Reader: an iterable of frames with ``len``, indices, slices and `seek`.

    Raises:
        TfcodecError: an argument is out of range.
        BitstreamError: the container is malformed or damaged.
        WeightsError: the stream names a network that is not installed (use ``pixels=False``), or ``network`` is none
            that may stand in for it.
        MediaError: the file cannot be read.
    """
    from .codec.file.reader import Reader

    return Reader(
        read_source(source), errors=_checked(errors), pixels=pixels, fast=fast, coarse=coarse, network=network,
        device=device, batch=batch, runtime=runtime,
    )  # fmt: skip


def decode_to(
    source: Source,
    out: str | os.PathLike[str],
    *,
    lossless: bool = False,
    errors: Literal["raise", "conceal"] = "raise",
    coarse: bool = False,
    fast: bool = False,
    network: str | None = None,
    device: str = "cpu",
    batch: int | None = None,
    progress: Progress | None = None,
    runtime: Runtime = "torch",
) -> Reader:
    """Decode a stream into a video file, in memory that does not grow with the length.

    Args:
        source: path, bytes or binary file object.
        out: .mp4, .m4v, .mov or .mkv file, which is overwritten. It is there whole or not at all.
        lossless: FFV1 and PCM in .mkv: exactly what was decoded.
        errors, coarse, fast, network, device, batch, runtime: as for `open`.
        progress: called with (frames done, frames in all).

    Returns:
        The Reader, at its end: ``info``, ``damaged`` and ``speech_missing`` say what there was.

    Raises:
        TfcodecError: an argument is out of range.
        BitstreamError: the stream is malformed or damaged.
        WeightsError: the stream names a network that is not installed, or ``network`` is none that may stand in for it.
        MediaError: the stream cannot be read, or the video not be written.
    """
    from .media import VideoWriter
    from .rates import SAMPLE_RATE

    refuse_same(source, out)
    reader = open(
        source, errors=errors, coarse=coarse, fast=fast, network=network, device=device, batch=batch, runtime=runtime
    )
    sound = None if reader.speech is None else ()
    with VideoWriter(out, reader.fps, 64 if coarse else 256, sound, SAMPLE_RATE, lossless) as writer:
        for frame in reader:
            if reader.speech is not None and frame.audio is not None:
                begin, length = writer.samples_written, reader.speech.length
                end = length if frame.number + 1 == len(reader) else min(begin + len(frame.audio), length)
                writer.write_sound(reader.speech.samples(begin, end))
            if frame.pixels is not None:
                writer.write(frame.pixels)
            if progress is not None:
                progress(writer.frames_written, len(reader))
    return reader


def probe(source: Source, *, errors: Literal["raise", "conceal"] = "raise") -> StreamInfo:
    """What a stream holds and where its bytes go, without decoding it; needs no torch.

    Args:
        source: path, bytes or binary file object.
        errors: as for `decode`; what is damaged is listed in the StreamInfo's ``damaged``.

    Returns:
        A StreamInfo: frames, duration, keyframes, network, speech codec, bytes by part.

    Raises:
        TfcodecError: an argument is out of range.
        BitstreamError: the container is malformed or damaged.
        MediaError: the file cannot be read.
    """
    from .codec.file.decoder import probe_bytes

    return probe_bytes(read_source(source), errors=_checked(errors))


def _refuse_stream(source: object) -> None:
    """Raise MediaError for a video that is a tfcodec stream, which FFmpeg would only call no video."""
    from .bitstream import SIGNATURE

    head: object = b""
    if isinstance(source, bytes | bytearray | memoryview):
        head = bytes(source[: len(SIGNATURE)])
    elif isinstance(source, str | os.PathLike) and os.path.isfile(source):
        with suppress(OSError), path("source", source).open("rb") as file:
            head = file.read(len(SIGNATURE))
    if head == SIGNATURE:
        name = source if isinstance(source, str | os.PathLike) else "the source"
        raise MediaError(f"{name}: is a tfcodec stream already; to see it, decode or play it")


def _checked(errors: Literal["raise", "conceal"]) -> Literal["raise", "conceal"]:
    if errors not in ("raise", "conceal"):
        raise TfcodecError(f'errors must be "raise" or "conceal", not {errors!r}')
    return errors


def read_source(source: Source) -> bytes:
    """The bytes of a path, bytes or binary file object. Raises MediaError, LimitExceeded beyond 1 GiB."""
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    try:
        if isinstance(source, str | os.PathLike):
            with path("source", source).open("rb") as file:
                data = _whole(file)
        elif hasattr(source, "read"):
            data = _whole(source)
        else:
            raise MediaError(f"a stream is a path, bytes or a binary file object, not {type(source).__name__}")
    except TfcodecError:
        raise
    except (OSError, ValueError) as error:  # a ValueError: the file is closed, or holds no text
        raise MediaError(f"cannot read {source!s}: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_STREAM_BYTES:
        raise LimitExceeded(f"the stream is longer than {MAX_STREAM_BYTES} bytes")
    return data


def _whole(file: BinaryIO) -> bytes:
    """All that a file has, and no more than a byte too much. An unbuffered one gives it in pieces."""
    data = bytearray()
    while len(data) <= MAX_STREAM_BYTES:
        piece = file.read(min(1 << 20, MAX_STREAM_BYTES + 1 - len(data)))
        if piece is None:
            raise MediaError("the file object gives nothing yet: one that does not wait for its data cannot be read")
        if not isinstance(piece, bytes | bytearray | memoryview):
            raise MediaError("the file object must be opened in binary mode")
        if not len(piece):
            break
        data += piece
    return bytes(data)
