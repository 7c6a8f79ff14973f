"""Bad networks to try a call on, and what the layers below cost. Bytes and times only; no torch, no sockets."""

from .link import GilbertElliott, Link
from .overhead import DATA_CHANNEL, RTP, UDP, Transport

__all__ = ["DATA_CHANNEL", "RTP", "UDP", "GilbertElliott", "Link", "Transport"]
