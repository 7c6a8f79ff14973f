// Keyframes: section 8 of the specification. The AV1 decoder is the browser's.

import { chainPackets } from "./chain.js";
import { BitstreamError, MediaError } from "./errors.js";
import { planesToRgb } from "./planes.js";
import { SIDE, refuse } from "./still.js";

/** A decoder, the pictures that it gave, and what went wrong. */
function begin() {
  const made = { frames: [], failure: null };
  made.decoder = new VideoDecoder({
    output: (frame) => made.frames.push(frame), error: (error) => (made.failure = error),
  });
  made.decoder.configure({
    codec: "av01.0.00M.08", codedWidth: SIDE, codedHeight: SIDE, optimizeForLatency: true,
    hardwareAcceleration: "prefer-software",
  });
  return made;
}

let spare = null;

/** Set up a decoder before there is a keyframe: it takes the browser a while. */
export function prepareDecoder() {
  try {
    spare ??= begin();
  } catch {
    // decodeKeyframe() says so
  }
}

/**
 * Decode the last keyframe of a chain to RGB [256 * 256 * 3], exactly. `chain` holds `data` of a KEYFRAME and of the
 * KEYFRAME_INTER chunks after it. Throws BitstreamError; MediaError in browsers without WebCodecs.
 */
export async function decodeKeyframe(chain) {
  const packets = chainPackets(chain);
  if (typeof VideoDecoder === "undefined") throw new MediaError("this browser has no WebCodecs, which decode keyframes");
  let made = spare?.decoder.state === "configured" ? spare : null; // browsers take idle ones away
  spare = null;
  let failure = null;
  try {
    made ??= begin();
    const { decoder } = made;
    for (const [n, data] of packets.entries()) {
      decoder.decode(new EncodedVideoChunk({ type: n ? "delta" : "key", timestamp: 40000 * n, data }));
    }
    await decoder.flush();
  } catch (error) {
    failure = error;
  }
  const { frames = [], decoder } = made ?? {};
  failure = made?.failure ?? failure;
  try {
    if (failure?.name === "NotSupportedError") throw new MediaError("this browser cannot decode AV1");
    if (failure || frames.length !== packets.length) {
      refuse(BitstreamError, 45, `${failure ? "not decodable AV1" : frames.length} pictures of ${packets.length}`);
    }
    return planesToRgb(...(await planesOf(frames.at(-1))));
  } finally {
    frames.forEach((frame) => frame.close());
    if (decoder && decoder.state !== "closed") decoder.close();
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
