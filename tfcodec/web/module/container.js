// Whole files: the rules that bind chunks together, sections 5 and 14 of the specification, read strictly.

import { crc16, hex, sameBytes, varintBytes } from "./bytes.js";
import { MAX_CHAIN } from "./chain.js";
import { LIMITS, checkFrameCount, isKeyframe, isLayer, packetsFor, readChunk } from "./chunks.js";
import { BitstreamError, LimitExceeded, TruncatedError, fail } from "./errors.js";

const SIGNATURE = Uint8Array.of(0xc6, 0x54, 0x0d, 0x0a);
const OPUS_RATE = 48000;
/**
 * Layers that a stream has if a chunk names their tables, and the rules of their order: for tables that are changed or late,
 * chunks without tables, in another place than before their tiny frames, without these. Of `whole` ones no frame is left out.
 */
const ANNOUNCED = {
  MOTION: { name: "motion", changed: 61, without: 63, place: 64, left: 65, whole: true },
  DISPLACEMENT: { name: "displacement", changed: 72, without: 74, place: 75, left: 76, whole: false },
};

/**
 * Read a whole file.
 *
 * Gives { header, chunks, frameCount, motionTables, displacementTables, audioSamples, bytes }; `bytes` is the account
 * of section 16. Throws BitstreamError or one of its kinds, with the rule that is broken.
 */
export function read(source, limits = {}) {
  const data = source instanceof Uint8Array ? source : new Uint8Array(source);
  const bounds = { ...LIMITS, ...limits };
  checkSignature(data);
  const order = new Order(bounds, data);
  const chunks = [];
  let offset = SIGNATURE.length;
  while (offset < data.length) {
    if (order.ended && !order.header.audio?.unknown) trailing(data, offset);
    const chunk = readChunk(data, offset, bounds);
    // How much speech there is, its codec says: what follows the frames may be that.
    if (order.ended && chunk.kind !== "SPEECH") trailing(data, offset);
    order.accept(chunk);
    chunks.push(chunk);
    offset += chunk.size;
  }
  if (!order.header || !order.ended) {
    fail(TruncatedError, 33, offset, `the stream ends after ${order.nextFrame} frames, before its end`);
  }
  const { header, nextFrame: frameCount } = order;
  const [motionTables, displacementTables] = ["MOTION", "DISPLACEMENT"].map((kind) => order.layers.get(kind).tables);
  const end = chunks.find((chunk) => chunk.kind === "END");
  const audioSamples = header.audio ? header.audio.totalSamples || end?.audioSamples || 0 : null;
  const bytes = account(chunks, data.length);
  return { header, chunks, frameCount, motionTables, displacementTables, audioSamples, bytes };
}

function trailing(data, offset) {
  fail(BitstreamError, 36, offset, `${data.length - offset} bytes follow the end of the stream`);
}

function checkSignature(data) {
  const start = data.subarray(0, SIGNATURE.length);
  if (sameBytes(start, SIGNATURE)) return;
  if (sameBytes(start, SIGNATURE.subarray(0, start.length))) {
    fail(TruncatedError, 1, data.length, "the data end within the signature");
  }
  const first = hex(data.subarray(0, 3));
  if (["c6540a", "c6540d", "46540d", "46540a", "c38654"].includes(first)) {
    fail(BitstreamError, 1, 0, "a tfcodec stream that was damaged by a transfer in text mode");
  }
  fail(BitstreamError, 1, 0, "not a tfcodec stream");
}

/** Where a file's bytes go, section 16. */
function account(chunks, total) {
  const bytes = { keyframe: 0, motion: 0, tiny: 0, displacement: 0, audio: 0 };
  for (const chunk of chunks) {
    if (isKeyframe(chunk)) bytes.keyframe += chunk.data.length;
    else if (isLayer(chunk)) bytes[chunk.layer] += chunk.bytes;
    else if (chunk.kind === "SPEECH") bytes.audio += chunk.size;
    else if (chunk.kind === "HEADER") bytes.audio += chunk.audio?.bytes ?? 0;
    else if (chunk.kind === "END" && chunk.audioSamples !== null) bytes.audio += varintBytes(chunk.audioSamples);
  }
  const media = Object.values(bytes).reduce((sum, part) => sum + part);
  return { container: total - media, ...bytes, total };
}

/** Follows a file chunk by chunk. */
class Order {
  constructor(limits, data) {
    this.limits = limits;
    this.data = data;
    this.header = null;
    /** Of layers that are announced: their tables, and the frame after their last. */
    const layers = Object.entries(ANNOUNCED).map(([kind, rules]) => [kind, { ...rules, tables: null, next: 0 }]);
    this.layers = new Map(layers);
    this.nextFrame = 0;
    this.nextPacket = 0;
    this.ended = false;
    this.keyframe = null;
    this.keyframeIsNew = false;
    this.chain = 0;
    this.chunks = 0;
    this.ancillary = 0;
  }

  accept(chunk) {
    const { kind, offset } = chunk;
    this.chunks++;
    if (this.chunks > this.limits.chunks) fail(LimitExceeded, 38, offset, `more than ${this.limits.chunks} chunks`);
    if (!this.header) {
      if (kind !== "HEADER") fail(BitstreamError, 12, offset, "the first chunk is not HEADER");
      this.header = chunk;
    } else if (kind === "HEADER") {
      if (!this.same(chunk, this.header)) {
        fail(BitstreamError, 22, offset, "a repeated HEADER differs from the first");
      }
    } else if (isKeyframe(chunk)) this.acceptKeyframe(chunk);
    else if (chunk.layer === "tiny") this.acceptTiny(chunk);
    else if (this.layers.has(kind)) this.acceptLayer(chunk, this.layers.get(kind));
    else if (kind.endsWith("_TABLES")) this.acceptTables(chunk, this.layers.get(kind.replace("_TABLES", "")));
    else if (kind === "SPEECH") this.acceptSpeech(chunk);
    else if (kind === "END") this.acceptEnd(chunk);
    else {
      this.ancillary++;
      if (this.ancillary > this.limits.ancillaryChunks) {
        fail(LimitExceeded, 38, offset, `more than ${this.limits.ancillaryChunks} ancillary chunks`);
      }
    }
    const { frameCount, audio } = this.header;
    if (frameCount) {
      const heard = !audio || audio.unknown || this.nextPacket === packetsFor(audio, audio.totalSamples);
      this.ended = this.nextFrame === frameCount && heard;
    }
  }

  /** Whether two chunks are the same byte by byte. */
  same(a, b) {
    const bytes = (chunk) => this.data.subarray(chunk.offset, chunk.offset + chunk.size);
    return sameBytes(bytes(a), bytes(b));
  }

  due(frame, expected, offset, rule, what) {
    if (frame !== expected) {
      fail(BitstreamError, rule, offset, `${what} at frame ${frame} where frame ${expected} is due`);
    }
  }

  within(end, offset, what) {
    const { frameCount } = this.header;
    if (frameCount && end > frameCount) {
      fail(BitstreamError, 32, offset, `${what} up to ${end} in a stream of ${frameCount}`);
    }
  }

  acceptKeyframe(chunk) {
    const { frame, tag, offset } = chunk;
    this.due(frame, this.nextFrame, offset, 24, "keyframe");
    if (!this.keyframe) {
      if (tag !== 0) fail(BitstreamError, 25, offset, `the first keyframe has tag ${tag}`);
    } else {
      if (frame <= this.keyframe.frame) fail(BitstreamError, 24, offset, `second keyframe for frame ${frame}`);
      if (tag !== (this.keyframe.tag + 1) % 4) fail(BitstreamError, 25, offset, `keyframe tag ${tag} out of turn`);
    }
    if (this.header.frameCount && frame >= this.header.frameCount) {
      fail(BitstreamError, 32, offset, `keyframe at ${frame} in a stream of ${this.header.frameCount}`);
    }
    this.checkLayersUsed(offset);
    if (chunk.kind === "KEYFRAME_INTER") this.checkReference(chunk);
    else this.chain = 0;
    this.chain++;
    this.keyframe = chunk;
    this.keyframeIsNew = true;
  }

  checkReference({ offset, reference }) {
    if (!this.keyframe) fail(BitstreamError, 66, offset, "KEYFRAME_INTER before the first keyframe");
    if (reference !== crc16(this.keyframe.data)) {
      fail(BitstreamError, 66, offset, "KEYFRAME_INTER that refers to another keyframe than the one before");
    }
    if (this.chain >= MAX_CHAIN) {
      fail(LimitExceeded, 67, offset, `more than ${MAX_CHAIN - 1} keyframes in a row that refer to others`);
    }
  }

  acceptTiny(chunk) {
    const { kind, offset, end } = chunk;
    if (kind === "TINY_MOVED" && !this.layers.get("MOTION").tables) {
      fail(BitstreamError, 77, offset, "TINY_MOVED in a stream without MOTION_TABLES");
    }
    if (!this.keyframe) fail(BitstreamError, 23, offset, "tiny frames before the first keyframe");
    this.due(chunk.frame, this.nextFrame, offset, 26, `${kind} chunk`);
    this.checkTag(chunk);
    this.within(end, offset, "frames");
    checkFrameCount(end, this.header.rate, offset, this.limits);
    for (const { name, tables, next, whole, left } of this.layers.values()) {
      if (whole && tables && end > next) {
        fail(BitstreamError, left, offset, `tiny frames up to ${end}, ${name} up to ${next}`);
      }
    }
    this.nextFrame = end;
    this.keyframeIsNew = false;
  }

  checkTag({ tag, offset, kind }) {
    if (tag !== this.keyframe.tag) {
      fail(BitstreamError, 25, offset, `${kind} frames refer to a keyframe of tag ${tag}`);
    }
  }

  acceptTables(chunk, layer) {
    const { kind, offset } = chunk;
    if (layer.tables && !this.same(chunk, layer.tables)) {
      fail(BitstreamError, layer.changed, offset, `a repeated ${kind} differs from the first`);
    }
    if (!layer.tables && this.keyframe) {
      fail(BitstreamError, layer.changed, offset, `${kind} for the first time after a keyframe`);
    }
    layer.tables = chunk;
  }

  acceptLayer(chunk, layer) {
    const { kind, offset, frame, end } = chunk;
    const { name, without, place } = layer;
    if (!layer.tables) fail(BitstreamError, without, offset, `${name} in a stream without ${kind}_TABLES`);
    if (!this.keyframe) fail(BitstreamError, 23, offset, `${name} before the first keyframe`);
    if (frame < layer.next) fail(BitstreamError, place, offset, `second ${kind} chunk for frame ${frame}`);
    this.due(frame, this.nextFrame, offset, place, `${kind} chunk`);
    this.checkTag(chunk);
    this.within(end, offset, name);
    checkFrameCount(end, this.header.rate, offset, this.limits);
    layer.next = end;
  }

  checkLayersUsed(offset) {
    for (const { name, next, left } of this.layers.values()) {
      if (next > this.nextFrame) {
        fail(BitstreamError, left, offset, `${name} up to ${next}, tiny frames up to ${this.nextFrame}`);
      }
    }
  }

  acceptSpeech({ offset, firstPacket, packets }) {
    const { audio } = this.header;
    if (!audio) fail(BitstreamError, 28, offset, "speech in a stream whose header has no audio");
    if (firstPacket !== this.nextPacket) {
      fail(BitstreamError, 29, offset, `speech packet ${firstPacket} where ${this.nextPacket} is due`);
    }
    const end = firstPacket + packets.length;
    this.nextPacket = end;
    if (audio.unknown) return;
    const most = packetsFor(audio, audio.totalSamples || this.limits.durationSeconds * OPUS_RATE);
    if (end > most) {
      if (audio.totalSamples) fail(BitstreamError, 32, offset, `${end} speech packets, ${most} are announced`);
      fail(LimitExceeded, 21, offset, `${end} speech packets are more than the limit allows`);
    }
  }

  acceptEnd({ offset, frameCount, audioSamples }) {
    const { audio } = this.header;
    if (this.header.frameCount) fail(BitstreamError, 34, offset, "END in a stream whose header has the totals");
    if ((audioSamples === null) !== (audio === null)) {
      fail(BitstreamError, 34, offset, "END and HEADER disagree about speech");
    }
    if (frameCount === 0) fail(BitstreamError, 35, offset, "a stream without frames");
    if (this.keyframeIsNew) fail(BitstreamError, 35, offset, "a keyframe without tiny frames");
    this.checkLayersUsed(offset);
    const counted = audio && !audio.unknown;
    const packets = counted ? packetsFor(audio, audioSamples) : 0;
    if (frameCount !== this.nextFrame || (counted && packets !== this.nextPacket)) {
      fail(
        BitstreamError, 34, offset,
        `END counts ${frameCount} frames and ${packets} speech packets, ` +
          `there are ${this.nextFrame} and ${this.nextPacket}`,
      );
    }
    this.ended = true;
  }
}
