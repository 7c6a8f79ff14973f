#!/usr/bin/env bash
# aiortc: one lost packet of sound costs 100 ms of it, after a pause of 320 ms; nothing is concealed.
#
# Opus can conceal a packet of 20 ms, and jitter buffers wait some tens of milliseconds for it. aiortc's receiver waits
# until its buffer of 16 packets is full, then goes on after a gap of five packets, four of which had arrived. The
# track's `recv()` gives no frame in the meantime and none for the gap; `pts` jumps. A listener, a recogniser or a
# recording misses five times what the network lost.
#
# One would guess: 20 ms are missing, or concealed, and the next frame comes at once.
#
# Seen on 2026-11-28 with aiortc 1.16.0, two peers in one process, a packet of Opus left out:
#
#   longest wait between two frames    320 ms
#   step of pts there                  5760 in place of 960: five frames are missing
#
# The script makes its own input and runs for ten seconds after the packages are there, over this machine's own
# addresses. It fails when that changes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check aiortc==1.16.0 av==18.1.0 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import time

from aiortc import AudioStreamTrack, RTCPeerConnection


async def main():
    sender, receiver = RTCPeerConnection(), RTCPeerConnection()
    tracks = []
    receiver.on("track", tracks.append)
    sender.addTrack(AudioStreamTrack())
    await sender.setLocalDescription(await sender.createOffer())
    await receiver.setRemoteDescription(sender.localDescription)
    await receiver.setLocalDescription(await receiver.createAnswer())
    await sender.setRemoteDescription(receiver.localDescription)

    transport = sender.getSenders()[0].transport
    send, sent, lost = transport._send_rtp, 0, 0

    async def lossy(data):
        nonlocal sent, lost
        if not 64 <= data[1] & 0x7F < 96:  # RTP, not RTCP
            sent += 1
            if sent == 150:
                lost += 1
                return
        await send(data)

    transport._send_rtp = lossy
    frames = []

    async def listen():
        while True:
            frame = await tracks[0].recv()
            frames.append((time.monotonic(), frame.pts, frame.samples))

    listener = asyncio.ensure_future(listen())
    await asyncio.sleep(7)
    listener.cancel()
    await sender.close()
    await receiver.close()
    pairs = list(zip(frames, frames[1:], strict=False))
    steps = [after[1] - before[1] for before, after in pairs]
    waits = [after[0] - before[0] for before, after in pairs]
    gap = max(range(len(steps)), key=steps.__getitem__)
    print(f"{len(frames)} frames of {frames[0][2]} samples, packets left out: {lost}")
    print(f"greatest step {steps[gap]}, after {1000 * waits[gap]:.0f} ms; all steps {sorted(set(steps))}")
    assert lost == 1 and {frame[2] for frame in frames} == {960}
    assert steps[gap] == 5760 and set(steps) == {960, 5760}, "another number of frames is missing"
    assert waits[gap] > 0.15, "the next frame comes at once"
    print("as described")


asyncio.run(main())
PYTHON
