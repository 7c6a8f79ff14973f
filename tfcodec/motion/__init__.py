"""Motion layer: how the face moved, as 16 numbers a frame (integers in 1/1024) relative to the keyframe's landmarks."""

from tfcodec.motion.decoder import MotionDecoder, MotionState
from tfcodec.motion.encoder import MotionEncoder
from tfcodec.motion.geometry import (
    ABSENT,
    BASES_ID,
    BASES_SHA256,
    LOST,
    NUMBERS,
    PARTS,
    SENT,
    UNIT,
    analyse,
    distance,
    synthesise,
)
from tfcodec.motion.smooth import smooth
from tfcodec.motion.tables import MOTION_ID, TABLES_SHA256, check_motion, motion_hash

__all__ = [
    "ABSENT",
    "BASES_ID",
    "BASES_SHA256",
    "LOST",
    "MOTION_ID",
    "NUMBERS",
    "PARTS",
    "SENT",
    "TABLES_SHA256",
    "UNIT",
    "MotionDecoder",
    "MotionEncoder",
    "MotionState",
    "analyse",
    "check_motion",
    "distance",
    "motion_hash",
    "smooth",
    "synthesise",
]
