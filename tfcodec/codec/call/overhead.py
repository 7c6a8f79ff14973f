"""What the layers below a packet cost. At 2 kbit/s headers weigh more than pictures, so they are always shown."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Transport:
    """Bytes around each packet, over IPv4 (IPv6: 20 more).

    Attributes:
        name: what is counted.
        fixed: bytes for every packet.
        align: the packet is padded to a multiple of this.
    """

    name: str
    fixed: int
    align: int = 1

    def wire_bytes(self, packet: int) -> int:
        """Bytes on the wire for a packet of so many bytes."""
        return self.fixed + -(-packet // self.align) * self.align


UDP = Transport("IPv4 + UDP", 20 + 8)
RTP = Transport("IPv4 + UDP + SRTP", 20 + 8 + 12 + 10)
"""RFC 3550's header, and the 80-bit tag of RFC 3711."""
DATA_CHANNEL = Transport("IPv4 + UDP + DTLS + SCTP", 20 + 8 + 13 + 8 + 16 + 12 + 16, 4)
"""DTLS 1.2 record with AES-GCM (RFC 6347, RFC 5288), SCTP common header and DATA chunk (RFC 9260). Acknowledgements,
which go the other way, are not in it: one of 28 bytes, with all the headers, for every second packet at most."""
