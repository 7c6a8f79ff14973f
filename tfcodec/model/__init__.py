"""The two-stage audio-visual upsampling network. Knows tensors, and nothing of bytes."""
