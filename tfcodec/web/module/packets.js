// Packets of calls: appendix B.1 to B.4 of the specification.

import { FieldReader, crc16 } from "./bytes.js";
import { LIMITS } from "./chunks.js";
import { BitstreamError, ChecksumError, LimitExceeded, TruncatedError, fail } from "./errors.js";

const FEEDBACK = 2;
const HEAD = 5;
const CRC = 2;
const LONGEST_PACKET = 65536;
const WRAP = 0x10000;
const MOST_MISSING = 64;

const u16 = (f, name) => {
  const [high, low] = f.take(2, name);
  return 256 * high + low;
};

/**
 * One packet: { kind: "MEDIA" | "KEYFRAME" | "FEEDBACK" | "END", sequence, timestamp, tag, ...fields }. Throws
 * BitstreamError or one of its kinds.
 */
export function parsePacket(packet, limits = LIMITS) {
  if (packet.length > LONGEST_PACKET) {
    fail(LimitExceeded, 6, 0, `packet of ${packet.length} bytes, limit ${LONGEST_PACKET}`);
  }
  const end = packet.length - CRC;
  if (end < HEAD) fail(TruncatedError, 55, 0, `packet of ${packet.length} bytes`);
  if (crc16(packet, 0, end) !== 256 * packet[end] + packet[end + 1]) {
    fail(ChecksumError, 56, end, "the packet's checksum does not match");
  }
  const f = new FieldReader(packet, 1, end);
  const sequence = u16(f, "sequence");
  const timestamp = u16(f, "timestamp");
  const common = { sequence, timestamp, tag: (packet[0] >> 4) & 3 };
  const read = [readMedia, readKeyframe, readFeedback, readEnd][packet[0] >> 6];
  return { ...read(f, packet[0], limits), ...common };
}

/** `units` are { frames, reference, payload }, the newest first; `speech` the consecutive packets, the newest last. */
function readMedia(f, first, limits) {
  const count = first & 7;
  let speechCount = 0;
  if (first & 8) {
    const start = f.position;
    speechCount = f.byte("speech_count");
    if (!speechCount) fail(BitstreamError, 57, start, "a list of no speech packets");
  } else if (!count) fail(BitstreamError, 57, f.position, "a media packet of nothing");
  const speech = [];
  for (let i = 0; i < speechCount; i++) {
    const start = f.position;
    const last = i + 1 === speechCount && !count;
    speech.push(last ? f.rest() : f.take(f.varint("length"), "speech"));
    if (speech[i].length > limits.speechPacketBytes) {
      fail(LimitExceeded, 6, start, `speech packet of ${speech[i].length} bytes`);
    }
  }
  const units = [];
  for (let i = 0; i < count; i++) {
    const head = f.byte("unit");
    const payload = i + 1 === count ? f.rest() : f.take(f.varint("length"), "tiny frames");
    units.push({ frames: (head >> 6) + 1, reference: head & 63, payload });
  }
  return { kind: "MEDIA", units, speech };
}

function readKeyframe(f) {
  const start = f.position;
  const total = u16(f, "total");
  const offset = u16(f, "offset");
  if (!f.remaining || offset + f.remaining > total) {
    fail(BitstreamError, 58, start, `fragment of ${f.remaining} bytes at ${offset} of ${total}`);
  }
  return { kind: "KEYFRAME", total, offset, data: f.rest() };
}

function readFeedback(f, first) {
  const [orphaned, hasState, broken, wanted] = [8, 4, 2, 1].map((flag) => Boolean(first & flag));
  if (orphaned && !wanted) {
    fail(BitstreamError, 59, 0, "feedback that wants no keyframe says that what it refers to is missing");
  }
  const highestSequence = u16(f, "highest_sequence");
  const fractionLost = f.byte("fraction_lost") / 255;
  const state = hasState ? u16(f, "state") : null;
  const missing = [];
  while (f.remaining && wanted) {
    const start = f.position;
    const offset = u16(f, "offset");
    const length = u16(f, "length");
    if (!length || offset + length >= WRAP || missing.length === MOST_MISSING) {
      fail(BitstreamError, 59, start, `part ${missing.length} of ${length} bytes at ${offset} is no part`);
    }
    missing.push([offset, length]);
  }
  if (missing.length && orphaned) {
    fail(BitstreamError, 59, 0, "parts are missing of a keyframe that is said to be there");
  }
  f.finish("feedback");
  return { kind: "FEEDBACK", highestSequence, fractionLost, state, broken, wanted, missing, orphaned };
}

function readEnd(f, first) {
  if (first & 0x3f) fail(BitstreamError, 60, 0, "reserved bits are set");
  f.finish("END packet");
  return { kind: "END" };
}

function packetOf(kind, tag, flags, sequence, timestamp, body) {
  const low = (value) => [(value >> 8) & 255, value & 255];
  const head = [(kind << 6) | (tag << 4) | flags, ...low(sequence % WRAP), ...low(timestamp % WRAP), ...body];
  return Uint8Array.of(...head, ...low(crc16(head)));
}

/** Half to even, as Python rounds. */
export function round(value) {
  const down = Math.floor(value);
  const rest = value - down;
  return rest > 0.5 || (rest === 0.5 && down % 2) ? down + 1 : down;
}

/** A FEEDBACK packet, with the fields that `parsePacket` gives; numbers are taken modulo 2^16. */
export function feedbackPacket(said) {
  const { sequence, timestamp, tag, highestSequence, fractionLost, state, broken, wanted, missing, orphaned } = said;
  const body = [];
  const put = (value) => body.push((value >> 8) & 255, value & 255);
  put(highestSequence % WRAP);
  body.push(round(255 * fractionLost));
  if (state !== null) put(state % WRAP);
  for (const part of missing) part.forEach(put);
  const flags = (orphaned ? 8 : 0) | (state !== null ? 4 : 0) | (broken ? 2 : 0) | (wanted ? 1 : 0);
  return packetOf(FEEDBACK, tag, flags, sequence, timestamp, body);
}

/** Puts the parts of one keyframe object together, in any order, cut anywhere. */
export class KeyframeParts {
  constructor(total) {
    this.total = total;
    /** The object; holes are zeros. */
    this.data = new Uint8Array(total);
    this.holes = total ? [[0, total]] : [];
  }

  /** Take a part; true when the object is complete. */
  add(offset, data) {
    const end = offset + data.length;
    this.data.set(data, offset);
    this.holes = this.holes.flatMap(([a, b]) => [[a, Math.min(b, offset)], [Math.max(a, end), b]]
      .filter(([x, y]) => x < y));
    return !this.holes.length;
  }

  /** [offset, length] of what is missing, 64 parts at most. */
  get missing() {
    return this.holes.slice(0, MOST_MISSING).map(([a, b]) => [a, b - a]);
  }
}
