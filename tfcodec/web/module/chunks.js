// The chunks of a file and their fields: sections 4 and 6 of the specification.

import { FieldReader, crc16, crc32, readLength, varintBytes } from "./bytes.js";
import { BitstreamError, ChecksumError, LimitExceeded, TruncatedError, UnsupportedVersion, fail } from "./errors.js";

export const VERSION = 1;
const CRITICAL = 0x80;
const LONG_CRC = 0x40;
const TAGS = 4;
const FRAMES_PER_CHUNK = 128;
const SHAPES = 128;
const HASH_BYTES = 4;
export const OPUS = 1;
const CODEC2 = 2;
const LYRA = 3;
const LONGEST_PACKET = 240000; // samples at 48 kHz, of speech codecs other than Opus
const OPUS_RATE = 48000;
const OPUS_TICK = 120;
const OPUS_DURATIONS = [8, 16, 24, 32, 40, 48];

/** Limits of a reader, section 13; they may be made stricter. */
export const LIMITS = Object.freeze({
  headerBytes: 256,
  keyframeBytes: 1048576,
  tinyBytes: 65536,
  motionBytes: 65536,
  displacementBytes: 65536,
  speechBytes: 65536,
  speechPacketBytes: 4000,
  ancillaryBytes: 65536,
  frames: 1080000,
  durationSeconds: 43200,
  frameRate: 120,
  chunks: 2000000,
  ancillaryChunks: 1000,
  experimental: false,
  /** Read streams whose speech is coded in a way that this module does not know; the pictures are there without it. */
  anySpeech: false,
});

/** Section 4's table: name, longest payload and reader of each type. */
export const KINDS = new Map([
  [0xc1, { name: "HEADER", longest: (l) => l.headerBytes, read: readHeader }],
  [0xc2, { name: "KEYFRAME", longest: (l) => l.keyframeBytes + 16, read: readKeyframe }],
  [0x84, { name: "TINY", longest: (l) => l.tinyBytes, read: readLayer }],
  [0x85, { name: "SPEECH", longest: (l) => l.speechBytes, read: readSpeech }],
  [0xc6, { name: "END", longest: (l) => l.headerBytes, read: readEnd }],
  [0x07, { name: "META", longest: (l) => l.ancillaryBytes, read: readMeta }],
  [0x08, { name: "PADDING", longest: (l) => l.ancillaryBytes, read: (f) => ({ length: f.rest().length }) }],
  [0x8a, { name: "MOTION_TABLES", longest: (l) => l.headerBytes, read: (f) => readTables(f, "motion") }],
  [0xcc, { name: "KEYFRAME_INTER", longest: (l) => l.keyframeBytes + 16, read: readInterKeyframe }],
  [0x8b, { name: "MOTION", longest: (l) => l.motionBytes, read: readLayer }],
  [0x0d, { name: "DISPLACEMENT_TABLES", longest: (l) => l.headerBytes, read: (f) => readTables(f, "displacement") }],
  [0x0e, { name: "DISPLACEMENT", longest: (l) => l.displacementBytes, read: readLayer }],
  [0x8f, { name: "TINY_MOVED", longest: (l) => l.tinyBytes, read: readMovedTiny }],
]);
const RESERVED = new Map([[0xc3, "KEYFRAME_PART"], [0x09, "KEYFRAME_REQUEST"]]);

const typeHex = (type) => `0x${type.toString(16).toUpperCase().padStart(2, "0")}`;
const nameOf = (type) => KINDS.get(type)?.name ?? RESERVED.get(type) ?? `chunk of type ${typeHex(type)}`;

/** Whether a chunk is a keyframe, of either kind. */
export const isKeyframe = ({ kind }) => kind === "KEYFRAME" || kind === "KEYFRAME_INTER";

/** Whether a chunk holds frames of a layer under a keyframe. */
export const isLayer = ({ layer }) => layer !== undefined;

/**
 * The chunk at `offset`: { kind, type, size, offset, ...fields }, of `size` bytes with framing. Kinds that are not known
 * are "unknown".
 */
export function readChunk(data, offset, limits = LIMITS) {
  const type = data[offset];
  if ((type & 0x3f) === 0) fail(BitstreamError, 2, offset, `${typeHex(type)} is not a chunk type`);
  const measured = readLength(data, offset + 1);
  if (measured === null) fail(TruncatedError, 7, offset, `the data end within the length of ${nameOf(type)}`);
  const [length, start] = measured;
  const kind = KINDS.get(type);
  const most = kind ? kind.longest(limits) : limits.ancillaryBytes;
  if (length === 0) fail(BitstreamError, 5, offset, `${nameOf(type)} with an empty payload`);
  if (length > most) fail(LimitExceeded, 6, offset, `${nameOf(type)} of ${length} bytes, limit ${most}`);
  const end = start + length;
  const stop = end + (type & LONG_CRC ? 4 : 2);
  if (stop > data.length) {
    fail(
      TruncatedError, 7, offset,
      `${nameOf(type)} needs ${stop - offset} bytes, ${data.length - offset} are left`,
    );
  }
  let stored = 0;
  for (let i = end; i < stop; i++) stored = stored * 256 + data[i];
  if (stored !== (type & LONG_CRC ? crc32 : crc16)(data, offset, end)) {
    fail(ChecksumError, 8, offset, `${nameOf(type)} does not match its checksum`);
  }
  const common = { type, offset, size: stop - offset };
  if (kind) {
    return { kind: kind.name, ...common, ...kind.read(new FieldReader(data, start, end), limits, kind.name) };
  }
  if (RESERVED.has(type)) fail(BitstreamError, 31, offset, `${nameOf(type)} has no place in a file`);
  if (type & CRITICAL) {
    fail(UnsupportedVersion, 9, offset, `critical ${nameOf(type)} is unknown to this reader`);
  }
  return { kind: "unknown", ...common, payload: data.subarray(start, end) };
}

function gcd(a, b) {
  while (b) [a, b] = [b, a % b];
  return a;
}

function readHeader(f, limits) {
  const start = f.position;
  const versions = f.byte("version");
  const version = versions >> 4;
  const minReaderVersion = versions & 15;
  if (!(minReaderVersion >= 1 && minReaderVersion <= version)) {
    fail(BitstreamError, 13, start, `version ${version} with minimum reader version ${minReaderVersion}`);
  }
  if (minReaderVersion > VERSION) {
    fail(
      UnsupportedVersion, 14, start,
      `the stream needs a reader of version ${minReaderVersion}; this one is of version ${VERSION}`,
    );
  }
  const both = f.byte("profile_flags");
  const profile = both >> 4;
  const flags = both & 15;
  if (profile !== 0 || flags & 8) {
    fail(UnsupportedVersion, 15, start + 1, `profile ${profile} with flags ${flags} is unknown to this reader`);
  }
  const experimental = Boolean(flags & 1);
  if (experimental && !limits.experimental) fail(UnsupportedVersion, 16, start + 1, "experimental stream");
  const rate = flags & 2 ? readRate(f, limits) : [25, 1];
  let position = f.position;
  const frameCount = f.varint("frame_count");
  checkFrameCount(frameCount, rate, position, limits);
  position = f.position;
  const modelId = f.varint("model_id");
  const modelHash = f.take(HASH_BYTES, "model_hash");
  if (modelId === 0 && modelHash.some(Boolean)) fail(BitstreamError, 18, position, "a model hash without a model");
  const tablesId = f.varint("tables_id");
  const audio = flags & 4 ? readAudio(f, frameCount, limits) : null;
  if (version <= VERSION) f.finish("HEADER");
  return { version, minReaderVersion, profile, experimental, rate, frameCount, modelId, modelHash, tablesId, audio };
}

function readRate(f, limits) {
  const start = f.position;
  const over = f.varint("rate_numerator");
  const under = f.varint("rate_denominator");
  if (over === 0 || under === 0 || gcd(over, under) !== 1) {
    fail(BitstreamError, 17, start, `frame rate ${over}/${under} is not a fraction in lowest terms`);
  }
  if (over === 25 && under === 1) {
    fail(BitstreamError, 17, start, "the default frame rate 25/1 must not be written out");
  }
  if (over < under || over > limits.frameRate * under) {
    fail(
      LimitExceeded, 21, start,
      `frame rate ${over}/${under} is outside 1 to ${limits.frameRate} frames per second`,
    );
  }
  return [over, under];
}

/** Samples at 48 kHz of a frame of a speech codec; of Opus, of 2.5 ms. Undefined for modes that do not exist. */
function frameSamples(codec, mode) {
  if (codec === CODEC2) return { 32: 960, 24: 960, 16: 1920, 14: 1920, 13: 1920, 12: 1920 }[mode];
  if (codec === LYRA) return mode >= 1 && mode <= 46 ? 960 : undefined;
  return OPUS_TICK;
}

function readAudio(f, frameCount, limits) {
  const start = f.position;
  const codec = f.byte("audio_codec");
  if (![OPUS, CODEC2, LYRA].includes(codec)) {
    if (limits.anySpeech) return { codec, unknown: true, totalSamples: 0, bytes: 1 + f.rest().length };
    fail(UnsupportedVersion, 19, start, `audio codec ${codec} is unknown to this reader`);
  }
  const frames = f.byte("packet_duration");
  const mode = codec === OPUS ? 0 : f.byte("audio_mode");
  const tablesId = codec === LYRA ? f.varint("speech_tables_id") : 0;
  const tablesHash = f.take(codec === LYRA ? HASH_BYTES : 0, "speech_tables_hash");
  const each = frameSamples(codec, mode);
  if (each === undefined) fail(UnsupportedVersion, 19, start, `audio codec ${codec} has no mode ${mode}`);
  const packetSamples = frames * each;
  const allowed = codec === OPUS
    ? OPUS_DURATIONS.includes(frames)
    : frames >= 1 && frames <= 250 && packetSamples <= LONGEST_PACKET;
  if (!allowed) fail(BitstreamError, 20, start + 1, `a speech packet cannot last ${packetSamples} samples at 48 kHz`);
  const preSkip = f.varint("pre_skip");
  const position = f.position;
  const totalSamples = f.varint("total_samples");
  if ((totalSamples === 0) !== (frameCount === 0)) {
    fail(BitstreamError, 20, position, "total_samples and frame_count must be known or unknown together");
  }
  if (totalSamples + preSkip > limits.durationSeconds * OPUS_RATE) {
    fail(LimitExceeded, 21, position, `speech of ${totalSamples} samples is longer than the limit`);
  }
  return { codec, mode, packetSamples, preSkip, totalSamples, tablesId, tablesHash, bytes: f.position - start };
}

/** Number of packets that hold so many samples after the pre-skip. */
export function packetsFor(audio, samples) {
  return Math.ceil((audio.preSkip + samples) / audio.packetSamples);
}

export function checkFrameCount(count, [over, under], offset, limits) {
  if (count > limits.frames || count * under > limits.durationSeconds * over) {
    fail(LimitExceeded, 21, offset, `${count} frames are more than the limit allows`);
  }
}

function readPosition(f) {
  const value = f.varint("position");
  return [Math.floor(value / TAGS), value % TAGS];
}

function readKeyframePosition(f, limits) {
  const start = f.position;
  const [frame, tag] = readPosition(f);
  if (frame >= limits.frames) fail(LimitExceeded, 21, start, `keyframe at frame ${frame} is past the limit`);
  return [frame, tag];
}

function readKeyframe(f, limits) {
  const [frame, tag] = readKeyframePosition(f, limits);
  if (!f.remaining) fail(BitstreamError, 10, f.position, "keyframe without data");
  return { frame, tag, data: f.rest() };
}

function readInterKeyframe(f, limits) {
  const [frame, tag] = readKeyframePosition(f, limits);
  const [high, low] = f.take(2, "reference");
  if (!f.remaining) fail(BitstreamError, 10, f.position, "keyframe without data");
  return { frame, tag, reference: high * 256 + low, data: f.rest() };
}

/** Which frames a layer's chunk holds, and in `bytes` how many the rest of it are. */
function readFrames(f, limits, name) {
  const start = f.position;
  const [frame, tag] = readPosition(f);
  const position = f.position;
  const count = f.varint("frame_count") + 1;
  if (count > FRAMES_PER_CHUNK) {
    fail(BitstreamError, 27, position, `${count} frames in a ${name} chunk, ${FRAMES_PER_CHUNK} at most`);
  }
  if (frame + count > limits.frames) {
    fail(LimitExceeded, 21, start, `${name} frames up to ${frame + count} are past the limit`);
  }
  return { frame, tag, count, end: frame + count, bytes: f.remaining };
}

function readLayer(f, limits, name) {
  return { layer: name.toLowerCase(), ...readFrames(f, limits, name), data: f.rest() };
}

function readMovedTiny(f, limits, name) {
  const frames = readFrames(f, limits, name);
  const { position } = f;
  if (f.remaining < 4) fail(BitstreamError, 78, position, `${name} chunk without shape and place`);
  const [shape, x, y, distance] = f.take(4, "shape");
  if (shape >= SHAPES || distance === 0) {
    fail(BitstreamError, 78, position, `${name} chunk of shape ${shape} and distance ${distance}`);
  }
  return { layer: "tiny", ...frames, shape, x, y, distance, data: f.rest() };
}

function readTables(f, layer) {
  const id = f.varint(`${layer}_id`);
  const hash = f.take(HASH_BYTES, `${layer}_hash`);
  f.finish(`${layer.toUpperCase()}_TABLES`);
  return { [`${layer}Id`]: id, [`${layer}Hash`]: hash };
}

function readSpeech(f, limits) {
  const firstPacket = f.varint("first_packet");
  const position = f.position;
  const both = f.varint("packet_count");
  const count = Math.floor(both / 2);
  if (!(count >= 1 && count <= f.remaining + 1)) {
    fail(BitstreamError, 30, position, `${count} speech packets cannot lie in ${f.remaining} bytes`);
  }
  let lengths;
  if (both % 2) {
    if (!f.remaining || f.remaining % count) {
      fail(BitstreamError, 30, position, `${f.remaining} bytes are not ${count} equal speech packets`);
    }
    lengths = new Array(count).fill(f.remaining / count);
  } else {
    lengths = [];
    let sum = 0;
    for (let i = 1; i < count; i++) {
      lengths.push(f.varint("packet_length"));
      sum += lengths[i - 1];
    }
    if (sum > f.remaining) fail(BitstreamError, 30, position, "speech packets run past their chunk");
    lengths.push(f.remaining - sum);
    if (lengths[0] > 0 && lengths.every((length) => length === lengths[0])) {
      fail(BitstreamError, 30, position, "equal speech packets must use the shared length");
    }
  }
  const longest = lengths.reduce((a, b) => Math.max(a, b), 0);
  if (longest > limits.speechPacketBytes) {
    fail(LimitExceeded, 6, position, `speech packet of ${longest} bytes`);
  }
  return { firstPacket, packets: lengths.map((length) => f.take(length, "packet")) };
}

function readEnd(f, limits) {
  const start = f.position;
  const frameCount = f.varint("frame_count");
  if (frameCount > limits.frames) {
    fail(LimitExceeded, 21, start, `${frameCount} frames are more than the limit allows`);
  }
  const audioSamples = f.remaining ? f.varint("audio_samples") : null;
  f.finish("END");
  return { frameCount, audioSamples };
}

function readMeta(f) {
  const crops = [];
  const texts = [];
  const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  while (f.remaining) {
    const tag = f.byte("item_tag");
    const length = f.varint("item_length");
    const start = f.position;
    f.take(length, "item");
    const item = new FieldReader(f.data, start, f.position);
    if (tag === 1) {
      const crop = {
        firstFrame: item.varint("first_frame"), sourceWidth: item.varint("width"),
        sourceHeight: item.varint("height"), x: item.signed("x"), y: item.signed("y"), side: item.varint("side"),
      };
      item.finish("crop region");
      if (!(crop.sourceWidth && crop.sourceHeight && crop.side)) {
        fail(BitstreamError, 37, start, "crop region without extent");
      }
      crops.push(crop);
    } else if (tag === 2) {
      const key = item.take(item.varint("key_length"), "key");
      try {
        texts.push([utf8.decode(key), utf8.decode(item.rest())]);
      } catch {
        fail(BitstreamError, 37, start, "text that is not UTF-8");
      }
    }
  }
  return { crops, texts };
}
