"""A call in real time, both ends on this machine: delay, drift, event loops; and an hour's memory.

    python -m benchmarks.measure.call_live                    # five minutes, and one minute of other settings
    python -m benchmarks.measure.call_live --part soak        # an hour of frames, as fast as it goes

Run it on an idle machine. Sender and receiver are processes of their own, joined by WebRTC data channels over loopback;
the source is the synthetic demonstration clip in a loop, with speech. Delay: from the moment at which a frame is
captured (its place in the sender's time) to the receiver's tick that shows it. The clock is common to both.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import multiprocessing
import os
import queue
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, ROOT, environment, write
from tfcodec.model.registry import default_model

PERIOD = 0.04
WARM_UP = 5.0
"""Seconds at the beginning that are not counted: the network is loaded, the first keyframe comes."""
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default: bundle 2, lookahead 0": ({}, {}),
    "bundle 1, lookahead 0": ({"bundle": 1}, {}),
    "bundle 1, lookahead 1": ({"bundle": 1}, {"lookahead": 1}),
    "default, 32-bit floating point": ({}, {"fast": False}),
}


def clip() -> Path:
    path = ROOT / "demo" / "source.mp4"
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        subprocess.run([sys.executable, str(ROOT / "examples/make_demo_clip.py"), str(path)], check=True)
    return path


def source() -> tuple[Any, Any]:
    from tfcodec.media import open_source

    with open_source(clip(), crop="auto") as video:
        return np.stack(list(video.frames_iter())), video.audio


async def watch_loop(late: list[float]) -> None:
    """How late the event loop comes to a task that wants to run every 2 ms."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(0.002)
        late.append(time.perf_counter() - began - 0.002)


def summary(values: list[float]) -> dict[str, float]:
    """In milliseconds."""
    ordered = sorted(1000 * v for v in values)
    return {
        "mean": statistics.fmean(ordered), "p99": ordered[int(0.99 * (len(ordered) - 1))],
        "p99.9": ordered[int(0.999 * (len(ordered) - 1))], "worst": ordered[-1],
    }  # fmt: skip


def loopback_bytes() -> int:
    for line in Path("/proc/net/dev").read_text().splitlines():
        if line.strip().startswith("lo:"):
            return int(line.split()[9])
    return 0


async def send(pipe: Any, seconds: float, options: dict[str, Any]) -> dict[str, Any]:
    from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

    from tfcodec.contrib.aiortc import CallSender, open_channels

    frames, audio = source()
    pc = RTCPeerConnection(RTCConfiguration([]))
    channels = open_channels(pc)
    sender = CallSender(*channels, audio=True, **options)
    await pc.setLocalDescription(await pc.createOffer())
    pipe.send(pc.localDescription.sdp)
    await pc.setRemoteDescription(RTCSessionDescription(await asyncio.to_thread(pipe.recv), "answer"))
    while not all(channel.readyState == "open" for channel in channels):
        await asyncio.sleep(0.01)
    late: list[float] = []
    began = time.monotonic()
    pipe.send(began)
    watch, wire, warm = None, 0, {}
    for number in range(round(seconds / PERIOD)):
        await asyncio.sleep(max(0.0, began + number * PERIOD - time.monotonic()))
        i = number % len(frames)
        sender.push(frames[i], np.pad(audio[640 * i : 640 * (i + 1)], (0, max(0, 640 * (i + 1) - len(audio)))))
        if number * PERIOD >= WARM_UP and watch is None:
            gc.freeze()  # what was loaded need not be looked through again and again
            watch = asyncio.create_task(watch_loop(late))
            wire, warm = loopback_bytes(), dict(sender.bytes)
    counted = seconds - WARM_UP
    rates = {part: 8 * (n - warm.get(part, 0)) / 1000 / counted for part, n in sender.bytes.items()}
    measured = 8 * (loopback_bytes() - wire) / 1000 / counted
    sender.close()
    await asyncio.sleep(0.3)
    pipe.send("end")
    await pc.close()
    return {
        "kbps": {part: rate for part, rate in rates.items() if part != "wire"}, "wire_kbps_by_formula": rates["wire"],
        "loopback_interface_kbps_both_ways": measured, "pictures_given_up": sender.pictures_given_up,
        "event_loop_late_ms": summary(late),
    }  # fmt: skip


async def receive(pipe: Any, options: dict[str, Any]) -> dict[str, Any]:
    from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

    from tfcodec.contrib.aiortc import CallReceiver

    receiver = CallReceiver(**options)
    ticks: list[tuple[float, int, bool]] = []
    late: list[float] = []

    def tick(picture: Any, sound: Any, fresh: bool) -> None:
        position = receiver.decoder.position
        if position is not None:
            ticks.append((time.monotonic(), position, fresh))

    receiver.on_tick = tick
    pc = RTCPeerConnection(RTCConfiguration([]))
    pc.on("datachannel", receiver.attach)
    await pc.setRemoteDescription(RTCSessionDescription(await asyncio.to_thread(pipe.recv), "offer"))
    await pc.setLocalDescription(await pc.createAnswer())
    pipe.send(pc.localDescription.sdp)
    began = await asyncio.to_thread(pipe.recv)
    await asyncio.sleep(max(0.0, began + WARM_UP - time.monotonic()))
    gc.freeze()
    watch = asyncio.create_task(watch_loop(late))
    first, cpu = len(ticks), time.process_time()
    held, skipped = receiver.decoder.stats.held, receiver.decoder.stats.skipped
    await asyncio.to_thread(pipe.recv)
    watch.cancel()
    stats = receiver.decoder.stats
    cpu = (time.process_time() - cpu) / (time.monotonic() - began - WARM_UP)
    worker = receiver.decoder._worker
    drawing = 0.0 if worker is None else worker.drawing
    receiver.close()
    await pc.close()
    counted = ticks[first:-8]  # the last are those after the end
    delays = [at - (began + frame * PERIOD) for at, frame, fresh in counted if fresh]
    minute = round(60 / PERIOD)
    longest = max(b[0] - a[0] for a, b in itertools.pairwise(counted))
    return {
        "ticks": len(counted), "new_frames": len(delays), "delay_ms": summary(delays),
        "delay_ms_first_minute": 1000 * statistics.fmean(delays[:minute]),
        "delay_ms_last_minute": 1000 * statistics.fmean(delays[-minute:]),
        "later_than_100_ms": sum(d > 0.1 for d in delays), "later_than_200_ms": sum(d > 0.2 for d in delays),
        "ticks_held": stats.held - held, "frames_left_out": stats.skipped - skipped,
        "drawing_ms": 1000 * drawing, "processors_used": cpu, "packets_lost": stats.lost,
        "longest_between_ticks_ms": 1000 * longest, "event_loop_late_ms": summary(late),
    }  # fmt: skip


def end_process(role: str, pipe: Any, result: Any, *args: Any) -> None:
    sys.setswitchinterval(0.001)  # threads that compute in Python give way to the event loop sooner
    work = send(pipe, *args) if role == "sender" else receive(pipe, *args)
    result.put((role, asyncio.run(work)))


def live(seconds: float, sender: dict[str, Any], receiver: dict[str, Any]) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    one, other = context.Pipe()
    result = context.Queue()
    peers = [
        context.Process(target=end_process, args=("receiver", other, result, receiver)),
        context.Process(target=end_process, args=("sender", one, result, seconds, sender)),
    ]
    for peer in peers:
        peer.start()
    out: dict[str, Any] = {}
    while len(out) < len(peers):
        try:
            role, figures = result.get(timeout=1)
            out[role] = figures
        except queue.Empty:
            if any(peer.exitcode for peer in peers):
                for peer in peers:
                    peer.kill()
                raise SystemExit("an end of the call has failed") from None
    for peer in peers:
        peer.join()
    # The load average says whether the machine was idle: two ends alone come to about 1.5.
    return {"seconds": seconds, "load_average_after": os.getloadavg()[0], **out}


def soak(hours: float) -> dict[str, Any]:
    """A call with 5 % loss in one process, not in real time; every 250th picture is drawn."""
    import tfcodec
    from tfcodec.simulator import Link

    frames, audio = source()
    frames = frames[:100]
    encoder, decoder = tfcodec.Encoder(latency="call", audio=True), tfcodec.Decoder()
    there, back = Link(0.05, 3, delay=0.05, seed=1), Link(0.05, 3, delay=0.05, seed=2)
    total = round(hours * 3600 / PERIOD)
    memory: list[tuple[int, int]] = []
    began = time.time()
    for t in range(total):
        now = t * PERIOD
        i = abs(t % 198 - 99)
        for answer in back.receive(now):
            for packet in encoder.push_feedback(answer):
                there.send(packet, now)
        for packet in encoder.push(frames[i], audio[640 * i : 640 * (i + 1)]):
            there.send(packet, now)
        for arrived in there.receive(now):
            decoder.push(arrived)
        decoder.pull(draw=t % 250 == 0)
        if (said := decoder.feedback()) is not None:
            back.send(said, now)
        if t % 1500 == 0:
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            memory.append((t // 25, pages * os.sysconf("SC_PAGE_SIZE") >> 10))
            print(f"{t / 25 / 60:5.1f} min of call in {time.time() - began:5.0f} s: {memory[-1][1]} KiB", flush=True)
    settled = next(kib for second, kib in memory if second >= 120)
    return {
        "call_seconds": total * PERIOD, "wall_seconds": time.time() - began, "resident_kib_at_2_min": settled,
        "resident_kib_at_end": memory[-1][1], "growth_mib": (memory[-1][1] - settled) / 1024,
        "frames_shown": decoder.stats.shown, "packets_lost": decoder.stats.lost, "pictures_drawn": total // 250,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("live", "soak"), default="live")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--other", type=float, default=60, help="seconds for each of the other settings; 0: none")
    parser.add_argument("--hours", type=float, default=1.0)
    options = parser.parse_args()
    path = RESULTS / "call_live.json"
    result: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    clip()
    if options.part == "soak":
        result["soak"] = {**environment(), **soak(options.hours)}
    else:
        result["live"] = {**environment(), "model": default_model().title}
        for number, (name, (sender, receiver)) in enumerate(SETTINGS.items()):
            seconds = options.seconds if number == 0 else options.other
            if seconds:
                result["live"][name] = live(seconds, sender, receiver)
                print(name, json.dumps(result["live"][name], indent=1), flush=True)
    write("call_live", result)


if __name__ == "__main__":
    main()
