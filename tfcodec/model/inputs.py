"""The sizes of what the network takes: known to the network, to its training and to the codec. Needs no torch."""

WINDOW = 5
"""Tiny frames around the one to draw, which is in the middle."""
REACH = WINDOW // 2
"""Frames on both sides of the current one that the network looks at."""
MEL_BANDS = 80
MEL_PER_FRAME = 4
LIPS_REACH = 33
"""Frames of the past that lips from speech listen to."""
LIPS_FUTURE = REACH + 1
"""Frames of the future that lips from speech listen to; what is not there yet is silence."""
LIPS_COLUMNS = MEL_PER_FRAME * (LIPS_REACH + 1 + LIPS_FUTURE)
MEL_COLUMNS = WINDOW * MEL_PER_FRAME
"""Columns of log-mel, 10 ms each, over the same 0.2 s."""
