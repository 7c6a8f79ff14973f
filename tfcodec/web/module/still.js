// Keyframes that stand alone, up to the AV1 decoder: sections 8.1 and 8.2 of the specification.

import { BitReader } from "./bits.js";
import { BitstreamError, LimitExceeded, TruncatedError } from "./errors.js";

export const SIDE = 256;
const CONSTANT_SEQUENCE = Uint8Array.of(0x18, 0x1d, 0xff, 0xff, 0xd3, 0x20, 0x20, 0x20, 0x30, 0x80);
const SEQUENCE = 0x0a;
const FRAME = 0x30;
const DELIMITER = 0x12;
const LONGEST_SEQUENCE = 64;

export const refuse = (Kind, rule, message) => {
  throw new Kind(`keyframe: ${message} [R${rule}]`);
};

/** `data` of KEYFRAME to { sequence, frame }, both OBU payloads. Throws BitstreamError where they are not of the profile. */
export function splitKeyframe(data) {
  let sequence = CONSTANT_SEQUENCE;
  let at = 0;
  if (!data.length) refuse(TruncatedError, 42, "empty");
  if (data[0] === SEQUENCE) {
    if (data.length < 2 || data.length < 2 + data[1]) refuse(TruncatedError, 42, "ends inside the sequence header");
    if (data[1] === 0 || data[1] > LONGEST_SEQUENCE) {
      refuse(BitstreamError, 44, `sequence header of ${data[1]} bytes`);
    }
    at = 2 + data[1];
    sequence = data.subarray(2, at);
    if (at === data.length) refuse(TruncatedError, 42, "no frame after the sequence header");
  }
  if (data[at] !== FRAME) refuse(BitstreamError, 41, `byte ${at} is ${data[at]}, must be ${FRAME} (frame)`);
  if (at + 1 === data.length) refuse(TruncatedError, 42, "the frame is empty");
  if (sequence !== CONSTANT_SEQUENCE) checkSequence(sequence);
  return { sequence, frame: data.subarray(at + 1) };
}

/** Section 8.2: what a sequence header has to say. */
function checkSequence(sequence) {
  const bits = new BitReader(sequence, () => refuse(TruncatedError, 44, "ends inside the sequence header"));
  const want = (name, count, value) => {
    const found = bits.read(count);
    if (found !== value) refuse(BitstreamError, 44, `${name} is ${found}, must be ${value}`);
  };
  want("seq_profile", 3, 0);
  want("still_picture", 1, 1);
  want("reduced_still_picture_header", 1, 1);
  bits.read(5); // level
  const sizes = [bits.read(4) + 1, bits.read(4) + 1];
  const [width, height] = sizes.map((count) => bits.read(count) + 1);
  if (width !== SIDE || height !== SIDE) {
    refuse(LimitExceeded, 43, `${width}x${height} pixels, must be ${SIDE}x${SIDE}`);
  }
  bits.read(3); // 128x128 superblocks, filter-intra, intra edge filter
  want("enable_superres", 1, 0);
  bits.read(2); // CDEF, loop restoration
  want("high_bitdepth", 1, 0);
  want("mono_chrome", 1, 0);
  want("color_description_present_flag", 1, 1);
  bits.read(16); // primaries and transfer characteristics
  want("matrix_coefficients", 8, 1);
  want("color_range", 1, 1);
  bits.read(3); // chroma sample position, separate_uv_delta_q
  want("film_grain_params_present", 1, 0);
  want("trailing one bit", 1, 1);
  while (bits.at < 8 * sequence.length) want("trailing bit", 1, 0);
}

/** A packet for an AV1 decoder: temporal delimiter, sequence header if there is one, and a frame (OBU payloads). */
export function obus(frame, sequence = null) {
  const head = [DELIMITER, 0];
  if (sequence) head.push(SEQUENCE, sequence.length, ...sequence);
  head.push(FRAME | 2);
  let left = frame.length;
  for (; left > 0x7f; left >>>= 7) head.push((left & 0x7f) | 0x80);
  head.push(left);
  const out = new Uint8Array(head.length + frame.length);
  out.set(head);
  out.set(frame, head.length);
  return out;
}
