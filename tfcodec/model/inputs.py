"""The sizes of what the network takes: known to the network, to its training and to the codec. Needs no torch."""

WINDOW = 5
"""Tiny frames around the one to draw, which is in the middle."""
REACH = WINDOW // 2
"""Frames on both sides of the current one that the network looks at."""
MEL_BANDS = 80
MEL_PER_FRAME = 4
LIPS_REACH = 34
"""Frames of the past that lips from speech listen to."""
MEL_COLUMNS = WINDOW * MEL_PER_FRAME
"""Columns of log-mel, 10 ms each, over the same 0.2 s."""
