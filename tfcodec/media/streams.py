"""Which of a file's tracks are taken, and how they are made ready for decoding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from tfcodec.errors import MediaError
from tfcodec.media import threads
from tfcodec.media.frames import MAX_SIDE, check_size
from tfcodec.media.notes import Notes

if TYPE_CHECKING:
    import av
    import av.container

S = TypeVar("S")


def video_stream(container: av.container.InputContainer, notes: Notes) -> av.VideoStream:
    """The video track to take: never a cover picture; the one marked as default; the largest; the first.

    Raises MediaError when there is none that can be decoded, or it is too large.
    """
    from av.stream import Disposition

    pictures = Disposition.attached_pic | Disposition.timed_thumbnails
    tracks = [stream for stream in container.streams.video if not stream.disposition & pictures]
    known = [stream for stream in tracks if stream.codec_context is not None]
    if not tracks:
        raise MediaError(f"{notes.name}: has no video")
    if not known:
        raise MediaError(f"{notes.name}: its video is in a format that this build of FFmpeg cannot decode")

    def pixels(stream: av.VideoStream) -> int:
        return (stream.codec_context.width or 0) * (stream.codec_context.height or 0)

    stream = _best(known, pixels)
    width, height = stream.codec_context.width, stream.codec_context.height
    if _ambiguous(known):
        notes.add(f"has {len(known)} video tracks; track {stream.index} is taken, of {width}x{height}")
    if width or height:
        check_size(width, height)
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = threads.count
    # the size may change within the stream
    stream.codec_context.options = {"max_pixels": str(MAX_SIDE * MAX_SIDE)}
    return stream


def audio_stream(container: av.container.InputContainer, notes: Notes) -> av.AudioStream | None:
    """The sound track to take: the one marked as default, no commentary, the first; None if there is none."""
    tracks = container.streams.audio
    known = [stream for stream in tracks if stream.codec_context is not None]
    if tracks and not known:
        notes.add("its sound is in a format that this build of FFmpeg cannot decode, and left out")
    if not known:
        return None
    stream = _best(known, lambda stream: 0)
    if _ambiguous(known):
        notes.add(f"has {len(known)} sound tracks; track {stream.index} is taken")
    settle_layout(stream.codec_context)
    return stream


def settle_layout(context: Any) -> str:
    """Give a decoder of sound, before it is opened, a layout of channels that PyAV can handle; returns its name.

    PyAV copies layouts without what an explicit list of channels (of order "custom") points at, and frees that once for
    each copy. So such a layout, and every other that has no name of its own, becomes a plain number of channels here,
    before the first frame is decoded. Nothing may look at ``context.layout`` before.
    """
    layout = context.layout
    count = int(layout.nb_channels)
    settled = settled_layout(layout.name, count)
    if settled is not None:
        context.layout = settled
    return settled or ""


def settled_layout(name: str, count: int) -> str | None:
    """The layout that a decoder is given for one of this name and number of channels; None to leave it alone."""
    if count <= 0:
        return None
    return name if name and " " not in name else f"{count} channels"


def _best(streams: list[S], size: Any) -> S:
    from av.stream import Disposition

    lesser = (
        Disposition.comment | Disposition.hearing_impaired | Disposition.visual_impaired | Disposition.dub
        | Disposition.karaoke | Disposition.dependent
    )  # fmt: skip

    def rank(stream: Any) -> tuple[bool, bool, int, int]:
        disposition = stream.disposition
        return bool(disposition & Disposition.default), not disposition & lesser, size(stream), -stream.index

    return max(streams, key=rank)


def _ambiguous(streams: list[Any]) -> bool:
    from av.stream import Disposition

    return len(streams) > 1 and sum(bool(stream.disposition & Disposition.default) for stream in streams) != 1
