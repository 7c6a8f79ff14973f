"""x264, x265 and SVT-AV1 through PyAV: pictures to MP4 files and back."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MediaError, TfcodecError
from ..rates import FPS
from .arms import Arm, Coded, Frames, Sound

SIDE = 256
STALL_SECONDS, ATTEMPTS = 30, 10
_ROOT = Path(__file__).resolve().parents[2]
_BT709, _LIMITED = 1, 1
_ENCODERS = {"x264": "libx264", "x265": "libx265", "svtav1": "libsvtav1"}
# FFmpeg's option ends at 63, SVT-AV1's own at 70 (it says so from release 3.0 on). Beyond its own end the library keeps
# the last CRF that it understood, and FFmpeg does no more than warn.
_FFMPEG_CRF, _SVT_CRF = 63, 70

# What each option is for: one intra frame, no scene cuts, one thread (the rates depend on the number of threads), no
# information SEI. Low delay: no frame waits for a later one. x264's SEI cannot be switched off and is filtered out.
_OPTIONS: dict[str, dict[str, str]] = {
    "x264": {"preset": "veryslow", "x264-params": "keyint=infinite:scenecut=0"},
    "x265": {
        "preset": "slower",
        "x265-params": "log-level=error:info=0:keyint=-1:scenecut=0:pools=none:frame-threads=1:wpp=0",
    },
    "svtav1": {"preset": "4", "svtav1-params": "lp=1:keyint=-1:scd=0:pred-struct=2"},
}
_LOW_DELAY: dict[str, dict[str, str]] = {
    "x264": {
        "tune": "zerolatency",
        "x264-params": "keyint=infinite:scenecut=0:bframes=0:rc-lookahead=0:sliced-threads=0",
    },
    "x265": {"tune": "zerolatency", "x265-params": _OPTIONS["x265"]["x265-params"] + ":bframes=0:rc-lookahead=0"},
    # Without temporal filtering, which low delay does not use, it locks up more rarely; the bytes are the same.
    "svtav1": {"svtav1-params": "lp=1:keyint=-1:scd=0:pred-struct=1:enable-tf=0"},
}
_USER_DATA_SEI = {"x264": ("h264", "filter_units=remove_types=6"), "x265": ("hevc", "filter_units=remove_types=39-40")}


def options(arm: Arm) -> dict[str, str]:
    """FFmpeg options of an arm's encoder. Raises TfcodecError for a CRF that SVT-AV1 does not have."""
    chosen = {**_OPTIONS[arm.codec], **(_LOW_DELAY[arm.codec] if arm.delay == "call" else {}), "crf": str(arm.point)}
    if arm.codec == "svtav1" and arm.point > _FFMPEG_CRF:
        if arm.point > _SVT_CRF:
            raise TfcodecError(f"libsvtav1 has no CRF {arm.point}: it ends at {_SVT_CRF}")
        chosen |= {"crf": str(_FFMPEG_CRF), "svtav1-params": f"{chosen['svtav1-params']}:crf={arm.point}"}
    return chosen


class Classical:
    """A classical codec at 256, or at a smaller size with bicubic interpolation both ways.

    The MP4 file holds pictures only. Payload: the coded frames, and the parameter sets where they lie beside them
    (H.264, H.265). AV1's are in the first frame too; temporal delimiters are not in MP4, so they are not counted.
    """

    def encode(self, arm: Arm, frames: Frames, sound: Sound | None, path: Path) -> None:
        # SVT-AV1 3.1 and 4.0 can lock up for good, by chance and mostly in low delay: it is watched, and tried again.
        if arm.codec == "svtav1":
            _encode_apart(arm, frames, path)
        else:
            self.encode_here(arm, frames, path)

    def encode_here(self, arm: Arm, frames: Frames, path: Path, alive: Callable[[], object] = lambda: None) -> None:
        """Encode in this process, calling ``alive`` for every frame. Raises MediaError."""
        import av
        from av.bitstream import BitStreamFilterContext
        from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

        os.environ.setdefault("SVT_LOG", "1")
        scaler = VideoReformatter()
        try:
            with av.open(str(path), "w", format="mp4") as container:
                stream: Any = container.add_stream(_ENCODERS[arm.codec], rate=FPS, options=options(arm))
                stream.width = stream.height = arm.size
                stream.pix_fmt = "yuv420p"
                context = stream.codec_context
                context.thread_count = 1
                context.time_base = Fraction(1, FPS)
                context.color_primaries = context.color_trc = context.colorspace = _BT709
                context.color_range = _LIMITED
                filters: Any = None
                for index in range(len(frames) + 1):
                    picture = None
                    if index < len(frames):
                        picture = scaler.reformat(
                            av.VideoFrame.from_ndarray(np.ascontiguousarray(frames[index]), format="rgb24"),
                            width=arm.size,
                            height=arm.size,
                            format="yuv420p",
                            dst_colorspace=Colorspace.ITU709,
                            interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND,
                        )
                        picture.pts, picture.time_base = index, Fraction(1, FPS)
                    packets = stream.encode(picture)
                    if arm.codec in _USER_DATA_SEI:
                        filters = filters or BitStreamFilterContext(_USER_DATA_SEI[arm.codec][1], stream)
                        packets = [kept for packet in packets for kept in filters.filter(packet)]
                    container.mux(packets)
                    alive()
        except (av.error.FFmpegError, ValueError) as error:
            raise MediaError(f"{_ENCODERS[arm.codec]} failed: {error}") from error

    def account(self, arm: Arm, path: Path) -> Coded:
        import av

        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            packets = [packet for packet in container.demux(stream) if packet.size]
            frames, keys = sum(p.size for p in packets), [p.size for p in packets if p.is_keyframe]
            sets = 0 if arm.codec == "svtav1" else len(stream.codec_context.extradata or b"")
        total = path.stat().st_size
        parts = {"container": total - frames - sets, "keyframe": sum(keys) + sets, "inter": frames - sum(keys)}
        return Coded(frames + sets, total, 0, parts, len(keys))

    def decode(self, arm: Arm, path: Path, wanted: NDArray[np.int64]) -> Frames:
        import av
        from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

        scaler, chosen, out = VideoReformatter(), set(wanted.tolist()), []
        with av.open(str(path)) as container:
            container.streams.video[0].codec_context.thread_count = 1
            for index, picture in enumerate(container.decode(video=0)):
                if index in chosen:
                    rgb = scaler.reformat(
                        picture,
                        width=SIDE,
                        height=SIDE,
                        format="rgb24",
                        src_colorspace=Colorspace.ITU709,
                        interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT,
                    )
                    out.append(rgb.to_ndarray())
        if len(out) != len(wanted):
            raise MediaError(f"{path}: decodes to {len(out)} of the {len(wanted)} frames that are wanted")
        return np.stack(out)

    def encoder_state(self, arm: Arm) -> str:
        return f"{_versions()} {arm.size} {sorted(options(arm).items())}"

    def decoder_state(self, arm: Arm) -> str:
        return _versions()


def _encode_apart(arm: Arm, frames: Frames, path: Path) -> None:
    for _ in range(ATTEMPTS):
        if _attempt(arm, frames, path):
            return
    raise MediaError(f"{_ENCODERS[arm.codec]} stood still for {STALL_SECONDS} s, {ATTEMPTS} times")


def _attempt(arm: Arm, frames: Frames, path: Path) -> bool:
    """Encode in a process of its own, which gives a sign of life for each frame; False if the signs stop."""
    command = [sys.executable, "-m", "tfcodec.bench.classical", arm.codec, arm.delay, str(arm.size), str(arm.point)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")])}
    pipe = subprocess.PIPE
    with subprocess.Popen([*command, str(path)], env=environment, stdin=pipe, stdout=pipe, stderr=pipe) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        signs: queue.Queue[bytes] = queue.Queue()
        output = child.stdout

        def listen() -> None:
            while sign := os.read(output.fileno(), 1024):
                signs.put(sign)
            signs.put(b"")

        threading.Thread(target=listen, daemon=True).start()
        try:
            with contextlib.suppress(BrokenPipeError):  # then the reason is on its standard error
                child.stdin.write(np.ascontiguousarray(frames).tobytes())
            child.stdin.close()
            while signs.get(timeout=STALL_SECONDS):
                pass
        except queue.Empty:
            child.kill()
            return False
        except BaseException:
            child.kill()
            raise
        error = child.stderr.read().decode(errors="replace").strip().splitlines()
        if child.wait():
            raise MediaError(error[-1] if error else f"{_ENCODERS[arm.codec]} ended with status {child.returncode}")
        return True


def _main(arguments: list[str]) -> int:
    """One encode for `_encode_apart`: raw frames on standard input."""
    codec, delay, size, point, path = arguments
    frames = np.frombuffer(sys.stdin.buffer.read(), np.uint8).reshape(-1, SIDE, SIDE, 3)
    try:
        arm = Arm(codec, "call" if delay == "call" else "file", int(size), int(point))
        Classical().encode_here(arm, frames, Path(path), lambda: os.write(1, b"."))
    except TfcodecError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


@cache
def _versions() -> str:
    import av

    codec = ".".join(map(str, av.library_versions["libavcodec"]))
    return f"PyAV {av.__version__}, libavcodec {codec}"


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
