"""Writes the container vectors and their README: ``python tests/vectors/make_bitstream_vectors.py``.

The media in these files are placeholder bytes: they test the container, not the layers above it. Faulty files
are built field by field, because the package refuses to write them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tfcodec.bitstream import (
    AudioConfig,
    Chunk,
    CropRegion,
    DisplacementChunk,
    DisplacementTablesChunk,
    EndChunk,
    InterKeyframeChunk,
    KeyframeChunk,
    MetaChunk,
    MotionChunk,
    MotionTablesChunk,
    MovedTinyChunk,
    PaddingChunk,
    SpeechChunk,
    StreamHeader,
    TinyChunk,
    UnknownChunk,
    write_signature,
)
from tfcodec.bitstream.framing import build_chunk

HERE = Path(__file__).parent
SIGNATURE = write_signature()
AUDIO = AudioConfig(packet_samples=2880, pre_skip=312, total_samples=9600)
HEADER = StreamHeader(frame_count=5, model_id=1, model_hash=bytes.fromhex("a1b2c3d4"), tables_id=1)
OPEN = replace(HEADER, frame_count=0)
KEYFRAME = KeyframeChunk(0, b"keyframe")
TINY = TinyChunk(0, 5, b"tiny")
SPEECH = SpeechChunk(0, (b"one", b"three", b"", b"four"))
END = EndChunk(5)
INTER = InterKeyframeChunk.after(KEYFRAME.data, 3, b"second", 1)
MOTION_TABLES = MotionTablesChunk(1, bytes.fromhex("e5f60718"))
MOTION = MotionChunk(0, 5, b"motion")
MOVED = MovedTinyChunk(0, 5, b"moved", shape=75, x=128, y=140, distance=58)
DISPLACEMENT_TABLES = DisplacementTablesChunk(1, bytes.fromhex("f6071829"))
DISPLACEMENT = DisplacementChunk(0, 5, b"displaced")
HEADER_BODY = bytes.fromhex("1100 05 01 a1b2c3d4 01")


@dataclass(frozen=True)
class Vector:
    """One file: what it holds, or what is wrong with it and which rule and error class say so."""

    name: str
    data: bytes
    sentence: str
    rule: int = 0
    error: str = ""


def stream(*chunks: Chunk | bytes) -> bytes:
    """A file made of chunks, or of raw bytes where a chunk is not to be written by the package."""
    return SIGNATURE + b"".join(c if isinstance(c, bytes) else c.to_bytes() for c in chunks)


def raw(chunk_type: int, payload: str | bytes) -> bytes:
    """A well-framed chunk with an arbitrary payload."""
    return build_chunk(chunk_type, bytes.fromhex(payload) if isinstance(payload, str) else payload)


def flip(data: bytes, position: int, mask: int = 1) -> bytes:
    """`data` with bits of one byte inverted."""
    changed = bytearray(data)
    changed[position] ^= mask
    return bytes(changed)


def chain(count: int) -> list[Chunk]:
    """A frame of tiny frames, and so many keyframes that refer to the one before, of a frame each."""
    out: list[Chunk] = [TinyChunk(0, 1, b"")]
    before = KEYFRAME.data
    for n in range(1, count + 1):
        data = b"inter %d" % n
        out += [InterKeyframeChunk.after(before, n, data, n % 4), TinyChunk(n, 1, b"", n % 4)]
        before = data
    return out


def valid() -> list[Vector]:
    """Streams that a reader must accept."""
    second = KeyframeChunk(3, b"second", 1)
    audio = replace(HEADER, audio=AUDIO)
    open_audio = replace(OPEN, audio=replace(AUDIO, total_samples=0))
    crop = CropRegion(0, 1280, 720, -64, 320, 8000)
    newer = raw(0xC1, bytes([0x21]) + HEADER_BODY[1:] + b"new fields")
    tags: list[Chunk] = [
        chunk for k in range(5) for chunk in (KeyframeChunk(k, b"k", k % 4), TinyChunk(k, 1, b"t", k % 4))
    ]
    # fmt: off
    return [
        Vector("smallest", stream(replace(HEADER, frame_count=1), KeyframeChunk(0, b"k"),
                                  TinyChunk(0, 1, b"t")),
               "One frame; nothing that could be left out."),
        Vector("silent", stream(HEADER, KEYFRAME, TINY), "Five frames in one TINY chunk, no speech."),
        Vector("speech", stream(audio, KEYFRAME, SPEECH, TINY),
               "Speech packets of different lengths, one missing."),
        Vector("speech_shared_length", stream(audio, KEYFRAME, TINY, SpeechChunk(0, (b"aa",) * 2),
                      SpeechChunk(2, (b"bb",) * 2)),
               "Speech in two chunks of equal packets."),
        Vector("two_keyframes", stream(HEADER, KEYFRAME, TinyChunk(0, 3, b"tiny"), second,
                                       TinyChunk(3, 2, b"t", 1)),
               "A second keyframe at frame 3."),
        Vector("keyframe_tags_wrap", stream(HEADER, *tags), "Five keyframes: tags 0, 1, 2, 3, 0."),
        Vector("open_ended", stream(OPEN, KEYFRAME, TINY, END),
               "Totals in an END chunk, as a live writer does it."),
        Vector("open_ended_speech", stream(open_audio, KEYFRAME, TINY, SPEECH, EndChunk(5, 9600)),
               "Totals of frames and speech in an END chunk."),
        Vector("repeated_header", stream(OPEN, KEYFRAME, TINY, OPEN, END),
               "The HEADER repeated, as in a recorded call."),
        Vector("metadata", stream(HEADER, MetaChunk((crop,), (("title", "Grüße"),)), KEYFRAME, TINY),
               "A crop region and a text."),
        Vector("padding", stream(HEADER, PaddingChunk(7), KEYFRAME, TINY), "Seven bytes of padding."),
        Vector("unknown_ancillary", stream(HEADER, UnknownChunk(0x2A, b"?"), UnknownChunk(0x6A, b"?"),
                      KEYFRAME, TINY),
               "Two ancillary chunks of unknown type, one with each checksum: to be skipped."),
        Vector("rate_30000_1001", stream(replace(HEADER, rate=(30000, 1001)), KEYFRAME, TINY),
               "A frame rate other than 25."),
        Vector("no_model", stream(replace(HEADER, model_id=0, model_hash=bytes(4)), KEYFRAME, TINY),
               "No network is named."),
        Vector("newer_version", stream(newer, KEYFRAME, TINY),
               "Written by version 2, readable by version 1, with fields appended to HEADER."),
        Vector("128_frames", stream(replace(HEADER, frame_count=128), KEYFRAME, TinyChunk(0, 128, b"t")),
               "As many frames as a TINY chunk may hold."),
        Vector("empty_tiny_payload", stream(HEADER, KEYFRAME, TinyChunk(0, 5, b"")),
               "Tiny frames that cost no bytes."),
        Vector("motion", stream(HEADER, MOTION_TABLES, KEYFRAME, MOTION, TINY), "A motion layer."),
        Vector("motion_and_speech", stream(open_audio, MOTION_TABLES, KEYFRAME, SPEECH, MOTION, TINY,
                                           EndChunk(5, 9600)),
               "A motion layer, speech, and totals in an END chunk."),
        Vector("motion_of_two_keyframes",
               stream(HEADER, MOTION_TABLES, KEYFRAME, replace(MOTION, frame_count=3), TinyChunk(0, 2, b"t"),
                      TinyChunk(2, 1, b"t"), HEADER, MOTION_TABLES, second, MotionChunk(3, 2, b"", 1),
                      TinyChunk(3, 2, b"t", 1)),
               "MOTION over two TINY chunks; HEADER and MOTION_TABLES repeated; motion that costs no bytes."),
        Vector("keyframe_inter", stream(HEADER, KEYFRAME, TinyChunk(0, 3, b"tiny"), INTER, TinyChunk(3, 1, b"t", 1),
                                        InterKeyframeChunk.after(INTER.data, 4, b"third", 2), TinyChunk(4, 1, b"", 2)),
               "Two keyframes that refer to the one before."),
        Vector("displacement", stream(HEADER, DISPLACEMENT_TABLES, KEYFRAME, DISPLACEMENT, TINY),
               "A displacement layer."),
        Vector("displacement_and_motion",
               stream(OPEN, DISPLACEMENT_TABLES, MOTION_TABLES, KEYFRAME, replace(DISPLACEMENT, frame_count=3),
                      replace(MOTION, frame_count=3), TinyChunk(0, 2, b"t"), TinyChunk(2, 1, b"t"), DISPLACEMENT_TABLES,
                      second, MotionChunk(3, 2, b"", 1), DisplacementChunk(3, 1, b"", 1), TinyChunk(3, 1, b"t", 1),
                      TinyChunk(4, 1, b"t", 1), END),
               "Motion and displacement in either order, over two TINY chunks; none of the last frame; totals in END."),
        Vector("displacement_left_out", stream(HEADER, DISPLACEMENT_TABLES, KEYFRAME, TinyChunk(0, 3, b"t"),
                                               DisplacementChunk(3, 2, b"d"), TinyChunk(3, 2, b"t")),
               "No displacement of the first frames."),
        Vector("tiny_moved", stream(HEADER, MOTION_TABLES, KEYFRAME, MOTION, MOVED),
               "Tiny frames of a moved keyframe."),
        Vector("tiny_moved_in_turn",
               stream(replace(HEADER, frame_count=6), MOTION_TABLES, KEYFRAME, MOTION, TinyChunk(0, 1, b"t"),
                      MovedTinyChunk(1, 2, b"m", shape=0, x=255, y=255, distance=255), TinyChunk(3, 1, b""),
                      MovedTinyChunk(4, 1, b"", shape=127, x=0, y=0, distance=1), MotionChunk(5, 1, b""),
                      MovedTinyChunk(5, 1, b"m")),
               "TINY and TINY_MOVED in turn, over one MOTION and another; the ends of the ranges; no data."),
        Vector("tiny_moved_of_two_keyframes",
               stream(open_audio, DISPLACEMENT_TABLES, MOTION_TABLES, KEYFRAME, SPEECH, replace(MOTION, frame_count=3),
                      replace(DISPLACEMENT, frame_count=3), replace(MOVED, frame_count=3), INTER,
                      MotionChunk(3, 2, b"m", 1), replace(MOVED, first_frame=3, frame_count=2, keyframe_tag=1),
                      EndChunk(5, 9600)),
               "TINY_MOVED under a keyframe and one that refers to it; with displacement, speech and END."),
        Vector("keyframe_chain_full", stream(replace(HEADER, frame_count=9), KEYFRAME, *chain(7),
                                             KeyframeChunk(8, b"new", 0), TinyChunk(8, 1, b"", 0)),
               "Eight keyframes in a chain, and one that begins another."),
    ]
    # fmt: on


def faulty() -> list[Vector]:
    """Streams that a reader must refuse, by rule."""
    head, kf, tiny = HEADER.to_bytes(), KEYFRAME.to_bytes(), TINY.to_bytes()
    audio, second = replace(HEADER, audio=AUDIO), KeyframeChunk(3, b"second", 1)
    good = stream(HEADER, KEYFRAME, TINY)
    b, t, c = "BitstreamError", "TruncatedError", "ChecksumError"
    u, x = "UnsupportedVersion", "LimitExceeded"

    def header(payload: str) -> bytes:
        return stream(raw(0xC1, payload), kf, tiny)

    def speech(payload: str) -> bytes:
        return stream(audio, KEYFRAME, TINY, raw(0x85, payload))

    # fmt: off
    return [
        Vector("not_tfc", b"RIFF" + good[4:], "The signature of another format.", 1, b),
        Vector("text_mode", good.replace(b"\r\n", b"\n"),
               "CR LF turned into LF by a transfer in text mode.", 1, b),
        Vector("empty", b"", "No bytes at all.", 1, t),
        Vector("type_0", stream(HEADER, bytes(8)), "Zeros where a chunk should be.", 2, b),
        Vector("length_not_shortest", stream(head[:1] + b"\x80" + head[1:], kf, tiny),
               "A chunk length with a leading zero digit.", 3, b),
        Vector("field_not_shortest", header("1100 8005 01 a1b2c3d4 01"),
               "A frame count with a leading zero digit.", 3, b),
        Vector("length_6_bytes", stream(b"\xc1\xff\xff\xff\xff\xff\x01"),
               "A chunk length of six bytes.", 4, b),
        Vector("field_2_pow_32", header("1100 9080808000 01 a1b2c3d4 01"), "A frame count of 2^32.", 4, b),
        Vector("empty_payload", stream(HEADER, b"\x08\x00\x00\x00"), "A chunk without payload.", 5, b),
        Vector("length_2_pow_32_minus_1", stream(HEADER, b"\xc2\x8f\xff\xff\xff\x7f"),
               "A keyframe of 2^32-1 bytes.", 6, x),
        Vector("speech_packet_too_long", stream(audio, KEYFRAME, TINY, SpeechChunk(0, (bytes(4001),))),
               "A speech packet of 4001 bytes.", 6, x),
        Vector("cut_in_chunk", good[:-1], "The last byte is missing.", 7, t),
        Vector("cut_in_length", good[:5], "The data end after the type of the first chunk.", 7, t),
        Vector("bad_crc32", flip(good, 8), "A bit of HEADER is inverted.", 8, c),
        Vector("bad_crc16", flip(good, len(good) - 3), "A bit of the tiny frames is inverted.", 8, c),
        Vector("unknown_critical", stream(HEADER, raw(170, "00"), KEYFRAME, TINY),
               "A critical chunk of unknown type.", 9, u),
        Vector("header_short", header("1100 05 01 a1b2"), "HEADER ends within the model hash.", 10, b),
        Vector("keyframe_empty", stream(HEADER, raw(194, "00"), TINY), "A keyframe without data.", 10, b),
        Vector("header_long", header("1100 05 01 a1b2c3d4 01 00"),
               "A byte after the last field of HEADER.", 11, b),
        Vector("no_header", stream(KEYFRAME, TINY), "The first chunk is a keyframe.", 12, b),
        Vector("version_0", header("0000 05 01 a1b2c3d4 01"), "Version 0.", 13, b),
        Vector("minimum_above_version", header("1200 05 01 a1b2c3d4 01"),
               "Version 1 needs a reader of version 2.", 13, b),
        Vector("needs_version_2", header("2200 05 01 a1b2c3d4 01"),
               "Only readers of version 2 may go on.", 14, u),
        Vector("profile_1", header("1110 05 01 a1b2c3d4 01"), "An unknown profile.", 15, u),
        Vector("reserved_flag", header("1108 05 01 a1b2c3d4 01"), "The reserved header flag.", 15, u),
        Vector("experimental", stream(replace(HEADER, experimental=True), KEYFRAME, TINY),
               "The experimental flag.", 16, u),
        Vector("rate_not_lowest", header("1102 3202 05 01 a1b2c3d4 01"), "Frame rate 50/2.", 17, b),
        Vector("rate_zero", header("1102 1900 05 01 a1b2c3d4 01"), "Frame rate 25/0.", 17, b),
        Vector("rate_default", header("1102 1901 05 01 a1b2c3d4 01"),
               "The default frame rate written out.", 17, b),
        Vector("hash_without_model", header("1100 05 00 a1b2c3d4 01"), "A model hash but no model.", 18, b),
        Vector("audio_codec", header("1104 05 01 a1b2c3d4 01 02 18 00 01"), "An unknown audio codec.", 19, u),
        Vector("packet_duration", header("1104 05 01 a1b2c3d4 01 01 03 00 01"),
               "Opus packets of 7.5 ms.", 20, b),
        Vector("total_samples", header("1104 05 01 a1b2c3d4 01 01 18 00 00"),
               "Frames are counted, samples are not.", 20, b),
        Vector("frames_over_limit", header("1100 c1f541 01 a1b2c3d4 01"), "1,080,001 frames.", 21, x),
        Vector("rate_over_limit", header("1102 7901 05 01 a1b2c3d4 01"), "121 frames per second.", 21, x),
        Vector("duration_over_limit", header("1102 0102 05 01 a1b2c3d4 01"),
               "Half a frame per second.", 21, x),
        Vector("speech_over_limit", header("1104 05 01 a1b2c3d4 01 01 18 00 8fffffff7f"),
               "Speech of 24.8 hours.", 21, x),
        Vector("header_changes", stream(OPEN, KEYFRAME, TINY, replace(OPEN, tables_id=2), END),
               "A second HEADER that differs.", 22, b),
        Vector("tiny_first", stream(HEADER, TINY, KEYFRAME), "Tiny frames before the keyframe.", 23, b),
        Vector("keyframe_late", stream(HEADER, KeyframeChunk(1, b"k"), TINY),
               "No keyframe for frame 0.", 24, b),
        Vector("keyframe_twice", stream(HEADER, KEYFRAME, replace(KEYFRAME, keyframe_tag=1), TINY),
               "Two keyframes for frame 0.", 24, b),
        Vector("first_tag", stream(HEADER, replace(KEYFRAME, keyframe_tag=1), replace(TINY, keyframe_tag=1)),
               "The first keyframe has tag 1.", 25, b),
        Vector("tag_skipped", stream(HEADER, KEYFRAME, TinyChunk(0, 3, b"t"), KeyframeChunk(3, b"k", 2)),
               "The second keyframe has tag 2.", 25, b),
        Vector("tiny_tag", stream(HEADER, KEYFRAME, replace(TINY, keyframe_tag=3)),
               "Tiny frames of a keyframe that is not the last.", 25, b),
        Vector("tiny_gap", stream(HEADER, KEYFRAME, TinyChunk(1, 4, b"t")), "Frame 0 is missing.", 26, b),
        Vector("tiny_overlap", stream(HEADER, KEYFRAME, TinyChunk(0, 3, b"t"), TinyChunk(2, 3, b"t")),
               "Frame 2 comes twice.", 26, b),
        Vector("129_frames", stream(replace(HEADER, frame_count=129), KEYFRAME, raw(0x84, "00 8100 00")),
               "129 frames in one TINY chunk.", 27, b),
        Vector("speech_unannounced", stream(HEADER, KEYFRAME, SPEECH, TINY),
               "Speech that HEADER does not announce.", 28, b),
        Vector("speech_gap", stream(audio, KEYFRAME, TINY, SpeechChunk(1, (b"a",) * 3)),
               "Speech packet 0 is missing.", 29, b),
        Vector("speech_count_0", speech("00 00 61"), "A list of no packets.", 30, b),
        Vector("speech_count", speech("00 08 61"), "Four packets in one byte.", 30, b),
        Vector("speech_not_divisible", speech("00 05 616161"),
               "Three bytes for two packets of one length.", 30, b),
        Vector("speech_overrun", speech("00 04 09 616161"), "A packet longer than its chunk.", 30, b),
        Vector("speech_not_shared", speech("00 04 01 6161"),
               "Equal packets without the shared length.", 30, b),
        Vector("part_in_file", stream(HEADER, build_chunk(0xC3, bytes([0, 40, 0]) + bytes(26)), TINY),
               "A keyframe part in a file.", 31, b),
        Vector("request_in_file", stream(HEADER, build_chunk(0x09, bytes(1)), KEYFRAME, TINY),
               "A keyframe request in a file.", 31, b),
        Vector("too_many_frames", stream(HEADER, KEYFRAME, replace(TINY, frame_count=6)),
               "Six frames of five.", 32, b),
        Vector("too_many_packets", stream(audio, KEYFRAME, TINY, SpeechChunk(0, (b"a",) * 5)),
               "Five speech packets of four.", 32, b),
        Vector("keyframe_past_end", stream(audio, KEYFRAME, TINY, KeyframeChunk(5, b"k", 1)),
               "A keyframe for frame 5 of five.", 32, b),
        Vector("cut_after_keyframe", stream(HEADER, KEYFRAME), "The tiny frames are missing.", 33, t),
        Vector("cut_before_speech", stream(audio, KEYFRAME, TINY), "The speech is missing.", 33, t),
        Vector("cut_before_end", stream(OPEN, KEYFRAME, TINY), "The END chunk is missing.", 33, t),
        Vector("end_and_totals", stream(audio, KEYFRAME, TINY, EndChunk(5, 9600)),
               "END although HEADER counts.", 34, b),
        Vector("end_disagrees", stream(OPEN, KEYFRAME, TINY, EndChunk(6)),
               "END counts a frame too many.", 34, b),
        Vector("end_without_speech", stream(OPEN, KEYFRAME, TINY, EndChunk(5, 1)),
               "END counts speech that there is not.", 34, b),
        Vector("no_frames", stream(OPEN, EndChunk(0)), "A stream of no frames.", 35, b),
        Vector("keyframe_alone", stream(OPEN, KEYFRAME, TINY, KeyframeChunk(5, b"k", 1), END),
               "A keyframe that no tiny frame follows.", 35, b),
        Vector("trailing", good + PaddingChunk(1).to_bytes(), "A chunk after the end.", 36, b),
        Vector("text_not_utf8", stream(HEADER, raw(7, "02 03 01 61 ff"), KEYFRAME, TINY),
               "A text of byte 0xFF.", 37, b),
        Vector("crop_without_extent", stream(HEADER, raw(7, "01 06 00 0a 0a 00 00 00"), KEYFRAME, TINY),
               "A crop region of side 0.", 37, b),
        Vector("motion_first", stream(HEADER, MOTION_TABLES, MOTION, KEYFRAME, TINY),
               "Motion before the keyframe.", 23, b),
        Vector("motion_tag", stream(HEADER, MOTION_TABLES, KEYFRAME, replace(MOTION, keyframe_tag=1), TINY),
               "Motion of a keyframe that is not the last.", 25, b),
        Vector("motion_129_frames", stream(replace(HEADER, frame_count=129), MOTION_TABLES, KEYFRAME,
                                           raw(0x8B, "00 8100 00")),
               "129 frames in one MOTION chunk.", 27, b),
        Vector("motion_past_end", stream(HEADER, MOTION_TABLES, KEYFRAME, replace(MOTION, frame_count=6), TINY),
               "Motion of six frames of five.", 32, b),
        Vector("motion_tables_short", stream(HEADER, raw(0x8A, "01 e5f607"), KEYFRAME, MOTION, TINY),
               "MOTION_TABLES ends within the hash.", 10, b),
        Vector("motion_tables_long", stream(HEADER, raw(0x8A, "01 e5f60718 00"), KEYFRAME, MOTION, TINY),
               "A byte after the last field of MOTION_TABLES.", 11, b),
        Vector("motion_tables_late", stream(HEADER, KEYFRAME, MOTION_TABLES, MOTION, TINY),
               "MOTION_TABLES after the keyframe.", 61, b),
        Vector("motion_tables_change", stream(HEADER, MOTION_TABLES, KEYFRAME, replace(MOTION_TABLES, motion_id=2),
                                              MOTION, TINY),
               "A second MOTION_TABLES that differs.", 61, b),
        Vector("motion_unannounced", stream(HEADER, KEYFRAME, MOTION, TINY),
               "Motion without MOTION_TABLES.", 63, b),
        Vector("motion_gap", stream(HEADER, MOTION_TABLES, KEYFRAME, MotionChunk(1, 4, b"m"), TINY),
               "The motion of frame 0 is missing.", 64, b),
        Vector("motion_twice", stream(HEADER, MOTION_TABLES, KEYFRAME, MOTION, MOTION, TINY),
               "The same motion twice.", 64, b),
        Vector("motion_early", stream(HEADER, MOTION_TABLES, KEYFRAME, MotionChunk(0, 3, b"m"),
                                      MotionChunk(3, 2, b"m"), TINY),
               "A MOTION chunk before the tiny frames of the one before it.", 64, b),
        Vector("motion_missing", stream(HEADER, MOTION_TABLES, KEYFRAME, TINY),
               "Tiny frames without motion.", 65, b),
        Vector("motion_too_short", stream(HEADER, MOTION_TABLES, KEYFRAME, MotionChunk(0, 3, b"m"), TINY),
               "Five tiny frames, motion of three.", 65, b),
        Vector("motion_past_keyframe", stream(HEADER, MOTION_TABLES, KEYFRAME, MOTION, TinyChunk(0, 3, b"t"),
                                              second, TinyChunk(3, 2, b"t", 1)),
               "Motion that reaches across a keyframe.", 65, b),
        Vector("motion_past_tiny", stream(OPEN, MOTION_TABLES, KEYFRAME, MOTION, TinyChunk(0, 3, b"t"),
                                          EndChunk(3)),
               "Motion that reaches past the tiny frames.", 65, b),
        Vector("keyframe_inter_first", stream(HEADER, InterKeyframeChunk(0, b"first", 0, 0), TINY),
               "The first keyframe refers to one before.", 66, b),
        Vector("keyframe_inter_other", stream(HEADER, KEYFRAME, TinyChunk(0, 3, b"t"),
                                              replace(INTER, reference=INTER.reference ^ 1), TinyChunk(3, 2, b"t", 1)),
               "A keyframe that refers to another than the one before.", 66, b),
        Vector("keyframe_inter_short", stream(HEADER, KEYFRAME, TinyChunk(0, 3, b"t"), raw(0xCC, "0d 12"),
                                              TinyChunk(3, 2, b"t", 1)),
               "A keyframe that ends within its reference.", 10, b),
        Vector("keyframe_inter_empty", stream(HEADER, KEYFRAME, TinyChunk(0, 3, b"t"), raw(0xCC, "0d 1234"),
                                              TinyChunk(3, 2, b"t", 1)),
               "A keyframe that refers to another and has no data.", 10, b),
        Vector("displacement_first", stream(HEADER, DISPLACEMENT_TABLES, DISPLACEMENT, KEYFRAME, TINY),
               "Displacement before the keyframe.", 23, b),
        Vector("displacement_tag", stream(HEADER, DISPLACEMENT_TABLES, KEYFRAME, replace(DISPLACEMENT, keyframe_tag=1),
                                          TINY),
               "Displacement under a keyframe that is not the last.", 25, b),
        Vector("displacement_129_frames", stream(replace(HEADER, frame_count=129), DISPLACEMENT_TABLES, KEYFRAME,
                                                 raw(0x0E, "00 8100 00")),
               "129 frames in one DISPLACEMENT chunk.", 27, b),
        Vector("displacement_past_end",
               stream(HEADER, DISPLACEMENT_TABLES, KEYFRAME, replace(DISPLACEMENT, frame_count=6), TINY),
               "Displacement of six frames of five.", 32, b),
        Vector("displacement_after_end", stream(HEADER, DISPLACEMENT_TABLES, KEYFRAME, TINY, DISPLACEMENT),
               "Displacement behind the tiny frames that end the stream.", 36, b),
        Vector("displacement_tables_short", stream(HEADER, raw(0x0D, "01 f60718"), KEYFRAME, DISPLACEMENT, TINY),
               "DISPLACEMENT_TABLES ends within the hash.", 10, b),
        Vector("displacement_tables_long", stream(HEADER, raw(0x0D, "01 f6071829 00"), KEYFRAME, DISPLACEMENT, TINY),
               "A byte after the last field of DISPLACEMENT_TABLES.", 11, b),
        Vector("displacement_tables_late", stream(HEADER, KEYFRAME, DISPLACEMENT_TABLES, DISPLACEMENT, TINY),
               "DISPLACEMENT_TABLES after the keyframe.", 72, b),
        Vector("displacement_tables_change",
               stream(HEADER, DISPLACEMENT_TABLES, KEYFRAME, replace(DISPLACEMENT_TABLES, displacement_id=2),
                      DISPLACEMENT, TINY),
               "A second DISPLACEMENT_TABLES that differs.", 72, b),
        Vector("displacement_unannounced", stream(HEADER, KEYFRAME, DISPLACEMENT, TINY),
               "Displacement without DISPLACEMENT_TABLES.", 74, b),
        Vector("displacement_gap", stream(HEADER, DISPLACEMENT_TABLES, KEYFRAME, DisplacementChunk(1, 4, b"d"), TINY),
               "Displacement of later frames than the tiny frames that follow.", 75, b),
        Vector("displacement_late", stream(HEADER, DISPLACEMENT_TABLES, KEYFRAME, TinyChunk(0, 3, b"t"),
                                           DisplacementChunk(0, 3, b"d"), TinyChunk(3, 2, b"t")),
               "Displacement behind the tiny frames of the same frames.", 75, b),
        Vector("displacement_twice", stream(HEADER, DISPLACEMENT_TABLES, KEYFRAME, DISPLACEMENT, DISPLACEMENT, TINY),
               "The same displacement twice.", 75, b),
        Vector("displacement_past_keyframe",
               stream(HEADER, DISPLACEMENT_TABLES, KEYFRAME, DISPLACEMENT, TinyChunk(0, 3, b"t"), second,
                      TinyChunk(3, 2, b"t", 1)),
               "Displacement that reaches across a keyframe.", 76, b),
        Vector("displacement_past_tiny", stream(OPEN, DISPLACEMENT_TABLES, KEYFRAME, DISPLACEMENT,
                                                TinyChunk(0, 3, b"t"), EndChunk(3)),
               "Displacement that reaches past the tiny frames.", 76, b),
        Vector("tiny_moved_first", stream(HEADER, MOTION_TABLES, MOVED, KEYFRAME), "TINY_MOVED before the keyframe.",
               23, b),
        Vector("tiny_moved_keyframe", stream(HEADER, MOTION_TABLES, KEYFRAME, MotionChunk(0, 2, b"m"),
                                             replace(MOVED, frame_count=2), second),
               "A keyframe for another frame than the one after TINY_MOVED.", 24, b),
        Vector("tiny_moved_tag", stream(HEADER, MOTION_TABLES, KEYFRAME, MOTION, replace(MOVED, keyframe_tag=1)),
               "TINY_MOVED of a keyframe that is not the last.", 25, b),
        Vector("tiny_moved_gap", stream(HEADER, MOTION_TABLES, KEYFRAME, MOTION,
                                        replace(MOVED, first_frame=1, frame_count=4)),
               "Frame 0 is missing, and TINY_MOVED follows.", 26, b),
        Vector("tiny_moved_overlap", stream(HEADER, MOTION_TABLES, KEYFRAME, MOTION, TinyChunk(0, 3, b"t"),
                                            replace(MOVED, first_frame=2, frame_count=3)),
               "Frame 2 comes in TINY and in TINY_MOVED.", 26, b),
        Vector("tiny_moved_twice", stream(HEADER, MOTION_TABLES, KEYFRAME, MOTION, replace(MOVED, frame_count=3),
                                          TinyChunk(2, 3, b"t")),
               "Frame 2 comes in TINY_MOVED and in TINY.", 26, b),
        Vector("tiny_moved_129_frames", stream(replace(HEADER, frame_count=129), MOTION_TABLES, KEYFRAME,
                                               MotionChunk(0, 128, b"m"), raw(0x8F, "00 8100 4b 80 8c 3a")),
               "129 frames in one TINY_MOVED chunk.", 27, b),
        Vector("tiny_moved_without_motion", stream(HEADER, MOTION_TABLES, KEYFRAME, MOVED),
               "TINY_MOVED, and no motion of its frames.", 65, b),
        Vector("tiny_moved_too_long", stream(HEADER, MOTION_TABLES, KEYFRAME, MotionChunk(0, 3, b"m"), MOVED),
               "TINY_MOVED of five frames, motion of three.", 65, b),
        Vector("tiny_moved_too_short", stream(OPEN, MOTION_TABLES, KEYFRAME, MOTION, replace(MOVED, frame_count=3),
                                              EndChunk(3)),
               "Motion that reaches past TINY_MOVED.", 65, b),
        Vector("tiny_moved_unannounced", stream(HEADER, KEYFRAME, MOVED), "TINY_MOVED without MOTION_TABLES.", 77, b),
        Vector("tiny_moved_short", stream(HEADER, MOTION_TABLES, KEYFRAME, MOTION, raw(0x8F, "00 04 4b 80 8c")),
               "TINY_MOVED ends before the distance.", 78, b),
        Vector("tiny_moved_bare", stream(HEADER, MOTION_TABLES, KEYFRAME, MOTION, raw(0x8F, "00 04")),
               "TINY_MOVED ends before the shape.", 78, b),
        Vector("tiny_moved_shape", stream(HEADER, MOTION_TABLES, KEYFRAME, MOTION, raw(0x8F, "00 04 80 80 8c 3a 61")),
               "Shape 128.", 78, b),
        Vector("tiny_moved_distance", stream(HEADER, MOTION_TABLES, KEYFRAME, MOTION,
                                             raw(0x8F, "00 04 4b 80 8c 00 61")),
               "Distance 0.", 78, b),
        Vector("keyframe_chain_long", stream(replace(HEADER, frame_count=9), KEYFRAME, *chain(8)),
               "Nine keyframes in a chain.", 67, x),
    ]
    # fmt: on


def write_all() -> None:
    """Write every vector and the table that describes them."""
    lines = [
        "# Container vectors",
        "",
        "Written by `make_bitstream_vectors.py`; the media in them are placeholder bytes. Every row is",
        "checked by `tests/test_bitstream_vectors.py`. R38 and R39 need more chunks than a small file has,",
        "or call packets; they are tested in code.",
        "",
        "## valid: a reader must accept them",
        "",
        "| file | what |",
        "|---|---|",
    ]
    for vector in valid():
        (HERE / "valid" / f"{vector.name}.tfc").write_bytes(vector.data)
        lines.append(f"| `valid/{vector.name}.tfc` | {vector.sentence} |")
    lines += [
        "",
        "## faulty: a reader must refuse them",
        "",
        "| file | rule | error | what |",
        "|---|---|---|---|",
    ]
    for vector in faulty():
        name = f"faulty/r{vector.rule:02d}_{vector.name}.tfc"
        (HERE / name).write_bytes(vector.data)
        lines.append(f"| `{name}` | R{vector.rule} | {vector.error} | {vector.sentence} |")
    (HERE / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_all()
