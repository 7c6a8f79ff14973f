"""A bad network to try calls on: `link` alone, `call` with both ends in simulated time, `command` for the terminal.

Bytes and times only: importing this package takes neither torch nor sockets.
"""

from .link import GilbertElliott, Link

__all__ = ["GilbertElliott", "Link"]
