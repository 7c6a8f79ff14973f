"""Speed of tfcodec and of the classical codecs by threads, in one run; import, first frame, memory.

    python -m benchmarks.measure.speed

Run it on an idle machine. Every figure comes from a process of its own. The clip is the first of `val` that lasts 6 s
or more, its first 150 frames. The classical codecs have the settings of `tfcodec bench` (random access, slow presets)
at about the middle of their curves, except for the threads. Encoding is timed from pictures in memory to the written
file, decoding from the file to RGB pictures. `processor_seconds_per_second`: of all threads, for a second of video, as
a measure of energy. The keypoint codec is that of `tfcodec.baselines`, with weights at random, which compute as long as
others. First frame: from a fresh interpreter, imports included, to the first RGB picture of a file.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import clip_list, environment, long_clips, own_process, write

FRAMES = 150
LEAST_SECONDS = 6
CRF = {"x264": 46, "x265": 43, "svtav1": 54}
THREADS = (1, 2)

COMMON = """
import json, sys, time
began = time.perf_counter()
threads, clip, folder, codec = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
def once(run):
    t, spent = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - t, time.process_time() - spent
def best(run, rounds=2):
    run()
    return min(once(run) for _ in range(rounds))
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024
def source():
    import numpy as np
    from tfcodec.media import open_source
    with open_source(clip, crop="none") as c:
        return np.stack([f for _, f in zip(range(FRAMES), c.frames_iter())]), c.audio
""".replace("FRAMES", str(FRAMES))

OWN_IMPORT = "import tfcodec; seconds = {'import': time.perf_counter() - began}"
KEYPOINT = """
import numpy as np
from tfcodec.baselines import keypoint
from tfcodec.baselines.keypoint_model import KeypointAnimator
seconds = {"import": time.perf_counter() - began}
import torch; torch.set_num_threads(threads)
torch.manual_seed(0)
animator = KeypointAnimator().eval().requires_grad_(False)
"""
PARTS = {
    ("tfcodec", "encode"): COMMON
    + OWN_IMPORT
    + """
import torch; torch.set_num_threads(threads)
frames, audio = source()
audio = None if audio is None else audio[: 640 * len(frames)]
rate = None if audio is None else 16000
before = peak()
encode = lambda: tfcodec.encode(frames, folder + "/clip.tfc", fps=25, audio=audio, sample_rate=rate)
seconds["encode"] = best(encode)
plain = lambda: tfcodec.encode(frames, fps=25, audio=audio, sample_rate=rate, refine=False)
seconds["encode_plain"] = best(plain)
def call():
    encoder = tfcodec.Encoder(latency="call", audio=False)
    for frame in frames: encoder.push(frame)
seconds["encode_call"] = best(call)
print(json.dumps({"frames": len(frames), "seconds": seconds, "peak_mb": peak(), "source_mb": before}))
""",
    ("tfcodec", "decode"): COMMON
    + OWN_IMPORT
    + """
import torch; torch.set_num_threads(threads)
count = []
seconds["decode"] = best(lambda: count.append(len(tfcodec.decode(folder + "/clip.tfc").frames)))
seconds["decode_fast"] = best(lambda: tfcodec.decode(folder + "/clip.tfc", fast=True))
seconds["decode_exact"] = best(lambda: tfcodec.decode(folder + "/clip.tfc", pixels=False))
print(json.dumps({"frames": count[0], "seconds": seconds, "peak_mb": peak()}))
""",
    ("tfcodec", "first"): COMMON
    + """
import torch; torch.set_num_threads(threads)
from tfcodec.codec.file.decoder import read_exact, render_exact
import numpy as np
data = open(folder + "/clip.tfc", "rb").read()
next(render_exact(read_exact(data), only=np.array([0])))
print(json.dumps({"frames": 1, "seconds": {"first_frame": time.perf_counter() - began}, "peak_mb": peak()}))
""",
    ("keypoint", "encode"): COMMON
    + KEYPOINT
    + """
frames, _ = source()
before = peak()
encode = lambda: open(folder + "/clip.kpt", "wb").write(keypoint.encode(frames, animator))
seconds["encode"] = best(encode)
print(json.dumps({"frames": len(frames), "seconds": seconds, "peak_mb": peak(), "source_mb": before}))
""",
    ("keypoint", "decode"): COMMON
    + KEYPOINT
    + """
count, data = [], open(folder + "/clip.kpt", "rb").read()
seconds["decode"] = best(lambda: count.append(len(keypoint.decode(data, animator))))
print(json.dumps({"frames": count[0], "seconds": seconds, "peak_mb": peak()}))
""",
    ("keypoint", "first"): COMMON
    + KEYPOINT
    + """
keypoint.decode(open(folder + "/clip.kpt", "rb").read(), animator, only=np.array([0]))
print(json.dumps({"frames": 1, "seconds": {"first_frame": time.perf_counter() - began}, "peak_mb": peak()}))
""",
    ("classical", "encode"): COMMON
    + """
import av
seconds = {"import": time.perf_counter() - began}
from pathlib import Path
from tfcodec.bench import classical
from tfcodec.bench.arms import Arm
frames, _ = source()
before = peak()
arm = Arm(codec, "file", 256, int(sys.argv[5]))
usual = classical.options(arm)
key = {"x264": "x264-params", "x265": "x265-params", "svtav1": "svtav1-params"}[codec]
many = {"x265": usual[key].replace("pools=none:frame-threads=1:wpp=0", f"pools={threads}:frame-threads={threads}"),
        "svtav1": usual[key].replace("lp=1", f"lp={threads}"), "x264": usual[key] + f":threads={threads}"}
if threads > 1: usual[key] = many[codec]
classical.options = lambda arm: usual
path = Path(folder) / (codec + ".mp4")
seconds["encode"] = best(lambda: classical.Classical().encode_here(arm, frames, path), 1)
print(json.dumps({"frames": len(frames), "seconds": seconds, "peak_mb": peak(), "source_mb": before}))
""",
    ("classical", "decode"): COMMON
    + """
import av
count = []
def decode():
    with av.open(folder + "/" + codec + ".mp4") as c:
        c.streams.video[0].codec_context.thread_count = threads
        count.append(sum(1 for f in c.decode(video=0) if f.to_ndarray(format="rgb24").size))
seconds = {"decode": best(decode)}
print(json.dumps({"frames": count[0], "seconds": seconds, "peak_mb": peak()}))
""",
    ("classical", "first"): COMMON
    + """
import av
with av.open(folder + "/" + codec + ".mp4") as c:
    next(c.decode(video=0)).to_ndarray(format="rgb24")
print(json.dumps({"frames": 1, "seconds": {"first_frame": time.perf_counter() - began}, "peak_mb": peak()}))
""",
}


def part(codec: str, which: str, threads: int, clip: Path, folder: str) -> dict[str, Any]:
    """One measurement in a process of its own."""
    code = PARTS[codec if codec in ("tfcodec", "keypoint") else "classical", which]
    given = (str(threads), str(clip), folder, codec, str(CRF.get(codec, 0)))
    result: dict[str, Any] = own_process(code, threads, *given, SVT_LOG="1")
    return result


def measure(codec: str, threads: int, clip: Path, folder: str) -> dict[str, Any]:
    parts = {which: part(codec, which, threads, clip, folder) for which in ("encode", "decode", "first")}
    timed = [
        (name, p["frames"], *value)
        for p in parts.values()
        for name, value in p["seconds"].items()
        if name not in ("import", "first_frame")
    ]
    return {
        "codec": codec, "threads": threads,
        "frames_per_second": {name: round(frames / wall, 1) for name, frames, wall, _ in timed},
        "processor_seconds_per_second": {name: round(spent * 25 / frames, 3) for name, frames, _, spent in timed},
        "import_seconds": round(parts["encode"]["seconds"]["import"], 3),
        "first_frame_seconds": round(parts["first"]["seconds"]["first_frame"], 2),
        "peak_memory_mb": {
            "encode": round(parts["encode"]["peak_mb"]), "of_it_the_source": round(parts["encode"]["source_mb"]),
            "decode": round(parts["decode"]["peak_mb"]),
        },
    }  # fmt: skip


def main() -> None:
    load = os.getloadavg()[0]
    (clip,) = long_clips(LEAST_SECONDS, 1)
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(codec, threads, clip, folder) for codec in ("tfcodec", "keypoint", *CRF) for threads in THREADS]
    own = {row["threads"]: row["frames_per_second"] for row in rows if row["codec"] == "tfcodec"}
    for row in rows:
        mine = own[row["threads"]]
        row["tfcodec_is_faster_by"] = {
            name: round(mine[name] / row["frames_per_second"][name], 3) for name in ("encode", "decode")
        }
        print(row)
    write("speed", {
        "environment": environment(), "load_before": round(load, 2), "clip_list": clip_list([clip]),
        "frames": FRAMES, "crf": CRF, "rows": rows,
    })  # fmt: skip


if __name__ == "__main__":
    main()
