"""Motion layer: how the face moved, as 16 numbers a frame (integers in 1/1024) relative to the keyframe's landmarks."""

from tfcodec.motion.geometry import BASES_ID, BASES_SHA256, NUMBERS, PARTS, UNIT, analyse, distance, synthesise

__all__ = ["BASES_ID", "BASES_SHA256", "NUMBERS", "PARTS", "UNIT", "analyse", "distance", "synthesise"]
