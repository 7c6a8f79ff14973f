"""Motion layer: how the face moved, as 16 numbers a frame (integers in 1/1024) relative to the keyframe's landmarks."""

from tfcodec.motion.decoder import MotionDecoder, MotionState
from tfcodec.motion.encoder import MotionEncoder
from tfcodec.motion.geometry import BASES_ID, BASES_SHA256, NUMBERS, PARTS, UNIT, analyse, distance, synthesise
from tfcodec.motion.smooth import smooth
from tfcodec.motion.tables import TABLES_ID, TABLES_SHA256, motion_hash

__all__ = [
    "BASES_ID",
    "BASES_SHA256",
    "NUMBERS",
    "PARTS",
    "TABLES_ID",
    "TABLES_SHA256",
    "UNIT",
    "MotionDecoder",
    "MotionEncoder",
    "MotionState",
    "analyse",
    "distance",
    "motion_hash",
    "smooth",
    "synthesise",
]
