#!/usr/bin/env bash
# aiortc's getStats() has the names of W3C's WebRTC statistics, but jitter and fractionLost in RTP's own units.
#
# A browser's `jitter` is in seconds and its `fractionLost` is a number from 0 to 1. aiortc hands out what stands in the
# RTCP packet: jitter in ticks of the RTP clock, 48000 or 90000 a second, and losses in 256ths. Code that takes both
# kinds of peers, or lowers its rate at a fractionLost above 0.1, sees loss at every single packet. `roundTripTime` is
# in seconds. Divide jitter by the codec's clock rate and fractionLost by 256.
#
# Guessed before the first run: jitter is in seconds, as the specification of these names has it.
#
# Seen on 2026-11-28 with aiortc 1.16.0, two peers in one process, Opus, every fourth packet of sound left out:
#
#   inbound-rtp, jitter                  576, an integer           (a browser: 0.012)
#   remote-inbound-rtp, fractionLost     around 64                 (a browser: 0.25)
#   remote-inbound-rtp, roundTripTime    0.001
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

from aiortc import AudioStreamTrack, RTCPeerConnection


async def main():
    sender, receiver = RTCPeerConnection(), RTCPeerConnection()
    sender.addTrack(AudioStreamTrack())
    await sender.setLocalDescription(await sender.createOffer())
    await receiver.setRemoteDescription(sender.localDescription)
    await receiver.setLocalDescription(await receiver.createAnswer())
    await sender.setRemoteDescription(receiver.localDescription)

    transport = sender.getSenders()[0].transport
    send, count = transport._send_rtp, 0

    async def lossy(data):
        nonlocal count
        if not 64 <= data[1] & 0x7F < 96:  # RTP, not RTCP
            count += 1
            if count % 4 == 0:
                return
        await send(data)

    transport._send_rtp = lossy
    await asyncio.sleep(8)
    inbound = [vars(s) for s in (await receiver.getStats()).values() if s.type == "inbound-rtp"]
    remote = [vars(s) for s in (await sender.getStats()).values() if s.type == "remote-inbound-rtp"]
    await sender.close()
    await receiver.close()
    jitter, lost, trip = inbound[0]["jitter"], remote[0]["fractionLost"], remote[0]["roundTripTime"]
    print(f"jitter {jitter!r}, fractionLost {lost!r}, roundTripTime {trip:.4f}")
    assert isinstance(jitter, int) and jitter >= 1, "jitter is in seconds"
    assert isinstance(lost, int) and 20 < lost < 130, "fractionLost is a fraction"
    assert 0 < trip < 1, "roundTripTime is not in seconds"
    print("as described")


asyncio.run(main())
PYTHON
