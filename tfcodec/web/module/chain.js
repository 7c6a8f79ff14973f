// Chains of keyframes: section 8.4 of the specification. What an AV1 decoder is given for one, byte by byte.

import { BitReader, BitWriter } from "./bits.js";
import { BitstreamError, LimitExceeded, TruncatedError } from "./errors.js";
import { SIDE, obus, refuse, splitKeyframe } from "./still.js";

/** Keyframes of a chain, the one that it begins with included. */
export const MAX_CHAIN = 8;
const RESERVED = 7; // the low bits of `tools`
const HINT_BITS = 2;
const WIDTH_BITS = 8;
const HEIGHT_BITS = 9;
const SEQUENCE_BYTES = 14;
const PREFIX_BYTES = 8;

/**
 * Packets for one AV1 decoder, in order. `chain` holds `data` of a KEYFRAME and of the KEYFRAME_INTER chunks after it, up to
 * the one that is wanted. Throws BitstreamError or one of its kinds.
 */
export function chainPackets(chain) {
  if (chain.length > MAX_CHAIN) refuse(LimitExceeded, 67, `number ${chain.length} of a chain, ${MAX_CHAIN} at most`);
  const { sequence, frame } = splitKeyframe(chain[0]);
  const later = chain.slice(1);
  if (!later.length) return [obus(frame, sequence)];
  const tools = later[0][0];
  for (const data of later) {
    if (data.length < 2) refuse(TruncatedError, 68, "no frame that refers to the keyframe before");
    if (data[0] & RESERVED) refuse(BitstreamError, 68, `reserved bits of tools ${data[0]} are set`);
    if (data[0] !== tools) refuse(BitstreamError, 68, `tools ${data[0]} after ${tools} in one chain`);
  }
  const first = obus(shownFrame(frame), chainSequence(sequence, tools));
  return [first, ...later.map((data, i) => obus(Uint8Array.of(...switchPrefix(i + 1), ...data.subarray(1))))];
}

/** The sequence header of a chain whose KEYFRAME has this (reduced) one. */
function chainSequence(still, tools) {
  const bits = new BitReader(still, () => refuse(TruncatedError, 44, "ends inside the sequence header"));
  bits.read(3 + 1 + 1 + 5); // profile, still, reduced, level
  const sizes = [bits.read(4) + 1, bits.read(4) + 1];
  sizes.forEach((count) => bits.read(count));
  const out = new BitWriter(SEQUENCE_BYTES);
  out.put(0, 3 + 1 + 1 + 1 + 1 + 5 + 12 + 5); // profile, ... up to the level
  out.put(WIDTH_BITS - 1, 4).put(HEIGHT_BITS - 1, 4).put(SIDE - 1, WIDTH_BITS).put(SIDE - 1, HEIGHT_BITS).put(0, 1);
  out.put(bits.read(3), 3); // 128x128 superblocks, filter-intra, intra edge filter
  out.put(tools >> 4, 4).put(1, 1).put((tools >> 3) & 1, 1).put(0, 1).put(3, 2).put(HINT_BITS - 1, 3);
  out.put(bits.read(35), 35).put(1, 1); // super-resolution, ... up to film grain
  return out.data;
}

/** The KEYFRAME's frame with a whole frame header in place of the reduced one. */
function shownFrame(still) {
  const bits = new BitReader(still, () => refuse(TruncatedError, 45, "ends inside the frame header"));
  const out = new BitWriter(still.length + 1);
  const copy = (count) => {
    const value = bits.read(count);
    out.put(value, count);
    return value;
  };
  out.put(1, 4); // no existing frame, a key frame, shown
  copy(1); // disable_cdf_update
  const screen = copy(1); // allow_screen_content_tools
  if (screen) copy(1); // force_integer_mv
  out.put(0, 1 + HINT_BITS);
  if (copy(1)) copy(32); // render size
  if (screen) copy(1); // allow_intrabc
  out.put(1, 1); // disable_frame_end_update_cdf
  // The header has grown by 8 bits: the rest keeps its place in its bytes.
  copy(-bits.at & 7);
  out.data.set(still.subarray(bits.at >> 3), out.at >> 3);
  return out.data;
}

/** What the frame of a chain's keyframe number `place` begins with. */
function switchPrefix(place) {
  const out = new BitWriter(PREFIX_BYTES);
  out.put(7, 4).put(0, 2).put(place % 4, HINT_BITS);
  for (let i = 0; i < 8; i++) out.put((place - 1) % 4, HINT_BITS);
  out.put(0, 1 + 7 * 3).put(SIDE - 1, WIDTH_BITS).put(SIDE - 1, HEIGHT_BITS);
  return out.data;
}
