// Keyframes: section 8 of the specification. The AV1 decoder is the browser's.

import { BitstreamError, LimitExceeded, MediaError, TruncatedError } from "./errors.js";
import { planesToRgb } from "./planes.js";

const SIDE = 256;
const CONSTANT_SEQUENCE = Uint8Array.of(0x18, 0x1d, 0xff, 0xff, 0xd3, 0x20, 0x20, 0x20, 0x30, 0x80);
const SEQUENCE = 0x0a;
const FRAME = 0x30;
const LONGEST_SEQUENCE = 64;

const refuse = (Kind, rule, message) => {
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
  let at = 0;
  const take = (count) => {
    if (at + count > 8 * sequence.length) refuse(TruncatedError, 44, "ends inside the sequence header");
    let value = 0;
    for (const end = at + count; at < end; at++) value = 2 * value + ((sequence[at >> 3] >> (7 - (at & 7))) & 1);
    return value;
  };
  const want = (name, count, value) => {
    const found = take(count);
    if (found !== value) refuse(BitstreamError, 44, `${name} is ${found}, must be ${value}`);
  };
  want("seq_profile", 3, 0);
  want("still_picture", 1, 1);
  want("reduced_still_picture_header", 1, 1);
  take(5); // level
  const bits = [take(4) + 1, take(4) + 1];
  const width = take(bits[0]) + 1;
  const height = take(bits[1]) + 1;
  if (width !== SIDE || height !== SIDE) {
    refuse(LimitExceeded, 43, `${width}x${height} pixels, must be ${SIDE}x${SIDE}`);
  }
  take(3); // 128x128 superblocks, filter-intra, intra edge filter
  want("enable_superres", 1, 0);
  take(2); // CDEF, loop restoration
  want("high_bitdepth", 1, 0);
  want("mono_chrome", 1, 0);
  want("color_description_present_flag", 1, 1);
  take(16); // primaries and transfer characteristics
  want("matrix_coefficients", 8, 1);
  want("color_range", 1, 1);
  take(3); // chroma sample position, separate_uv_delta_q
  want("film_grain_params_present", 1, 0);
  want("trailing one bit", 1, 1);
  while (at < 8 * sequence.length) want("trailing bit", 1, 0);
}

/** What an AV1 decoder that takes the low-overhead format is given. */
export function obus({ sequence, frame }) {
  const size = [];
  for (let left = frame.length; ; left >>>= 7) {
    size.push((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
    if (left <= 0x7f) break;
  }
  return Uint8Array.from([SEQUENCE, sequence.length, ...sequence, FRAME | 2, ...size, ...frame]);
}

/** Decode a keyframe to RGB [256 * 256 * 3], exactly. Throws BitstreamError; MediaError in browsers without WebCodecs. */
export async function decodeKeyframe(data) {
  const stream = obus(splitKeyframe(data));
  if (typeof VideoDecoder === "undefined") throw new MediaError("this browser has no WebCodecs, which decode keyframes");
  const frames = [];
  let failure = null;
  const decoder = new VideoDecoder({ output: (frame) => frames.push(frame), error: (error) => (failure = error) });
  try {
    decoder.configure({
      codec: "av01.0.00M.08", codedWidth: SIDE, codedHeight: SIDE, optimizeForLatency: true,
      hardwareAcceleration: "prefer-software",
    });
    decoder.decode(new EncodedVideoChunk({ type: "key", timestamp: 0, data: stream }));
    await decoder.flush();
  } catch (error) {
    failure ??= error;
  }
  try {
    if (failure?.name === "NotSupportedError") throw new MediaError("this browser cannot decode AV1");
    if (failure || frames.length !== 1) refuse(BitstreamError, 45, "not one decodable AV1 picture");
    return planesToRgb(...(await planesOf(frames[0])));
  } finally {
    frames.forEach((frame) => frame.close());
    if (decoder.state !== "closed") decoder.close();
  }
}

async function planesOf(frame) {
  const { width, height } = frame.visibleRect;
  if (width !== SIDE || height !== SIDE || !["I420", "NV12"].includes(frame.format)) {
    refuse(BitstreamError, 45, `decodes to ${width}x${height} ${frame.format}`);
  }
  const buffer = new Uint8Array(frame.allocationSize());
  const layout = await frame.copyTo(buffer);
  const plane = (index, side, step = 1, first = 0) => {
    const out = new Uint8Array(side * side);
    const { offset, stride } = layout[index];
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < side; x++) out[y * side + x] = buffer[offset + y * stride + x * step + first];
    }
    return out;
  };
  if (frame.format === "I420") return [plane(0, SIDE), plane(1, SIDE / 2), plane(2, SIDE / 2)];
  return [plane(0, SIDE), plane(1, SIDE / 2, 2, 0), plane(1, SIDE / 2, 2, 1)];
}
