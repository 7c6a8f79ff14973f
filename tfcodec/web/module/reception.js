// The exact part of a call's receiver: packets in any order become keyframes, tiny frames, motion and speech packets.
// Appendix B of the specification. No clock here.

import { crc16 } from "./bytes.js";
import { LIMITS, isKeyframe, readChunk } from "./chunks.js";
import { BitstreamError, LimitExceeded, TruncatedError, UnsupportedVersion, fail } from "./errors.js";
import { checkTables } from "./exact.js";
import { SpeechSchedule } from "./jitter.js";
import { MotionDecoder, TinyDecoder } from "./layers.js";
import { KeyframeParts, feedbackPacket } from "./packets.js";
import { tinyOfPicture, tinyToRgb } from "./planes.js";
import { RangeDecoder } from "./rangecoder.js";
import { MAX_GAP, SequenceCounter, extend, firstNumber } from "./sequence.js";

const KEEP = 128; // past frames that are kept, decoded or waiting: twice the longest reference
const PACKET_SAMPLES = [960, 1920]; // half a frame or a whole one, so that a frame's number says that of its packets
const OBJECT_LIMITS = { ...LIMITS, frames: 2 ** 30 }; // a call may be longer than a file
const LONGEST_OBJECT = 65536;
const REGULAR = 25; // ticks between feedback while nothing is missing
const TAGS = 4;

/** A keyframe refers to one that is not there. */
class ReferenceLost extends BitstreamError {}

function chunksOf(data) {
  if (!data.length) fail(TruncatedError, 7, 0, "empty packet");
  if (data.length > LONGEST_OBJECT) fail(LimitExceeded, 6, 0, `packet of ${data.length} bytes`);
  const chunks = [];
  for (let at = 0; at < data.length; at += chunks.at(-1).size) chunks.push(readChunk(data, at, OBJECT_LIMITS));
  return chunks;
}

/** Takes the packets of one sender; keeps what can be decoded, and knows what cannot and why. */
export class Reception {
  /** `decode(chain)` gives the picture [256 * 256 * 3] of a chain of keyframes' data, or a promise of it. */
  constructor(tables, decode) {
    this.tables = tables;
    this.decode = decode;
    /** The stream's HEADER, once a keyframe has come; and its speech, if it has any. */
    this.header = null;
    this.speech = null;
    /** Decoded frames by number: { tiny [96], rgb [192], motion [17] or null, keyframe }. */
    this.frames = new Map();
    /** Number of the newest decoded frame; of the newest that any packet has named; frames of a call that has ended. */
    this.newest = -1;
    this.seen = null;
    this.end = null;
    this.damaged = 0;
    this.arrivals = new SequenceCounter();
    this.hasMotion = false;
    this.tag = null;
    this.tagAt = -1;
    this.keyframes = new Map(); // by tag
    this.parts = new Map(); // by tag: { frame, parts }
    this.orphan = null; // tag of a keyframe that came, and refers to one that is not here
    this.states = new Map(); // by frame: { keyframe, state }
    this.waiting = new Map(); // by first frame: { first, tag, unit }
    this.earlySpeech = new Map();
    this.feedbackSequence = firstNumber();
    this.feedbackAt = -REGULAR;
    this.trouble = [false, false];
    this.tiny = new TinyDecoder(tables.tiny);
    this.motion = new MotionDecoder(tables.motion);
  }

  /**
   * Take a parsed packet. A promise if a keyframe is decoded meanwhile: nothing else is to be taken until then. Throws
   * UnsupportedVersion.
   */
  take(packet) {
    if (packet.kind === "FEEDBACK" || !this.arrivals.add(packet.sequence)) return null;
    const number = extend(packet.timestamp, this.seen ?? packet.timestamp);
    if (this.seen !== null && number > this.seen + MAX_GAP) {
      this.damaged++; // no sender is so far ahead
      return null;
    }
    if (packet.kind === "KEYFRAME") return this.takePart(packet, number);
    if (packet.kind === "MEDIA") this.takeMedia(packet, number);
    else this.end = number;
    return null;
  }

  /** The keyframe that arriving frames refer to is missing. */
  get wanted() {
    return this.seen !== null && (this.tag === null || !this.keyframes.has(this.tag));
  }

  /** Frames have come that depend on something lost. */
  get broken() {
    return [...this.waiting.values()].some(({ first, tag }) => first > this.newest && this.keyframes.has(tag));
  }

  /** What to tell the sender at the receiver's clock `tick`; null if there is nothing to tell now. */
  feedback(tick) {
    if (this.seen === null) return null;
    const { wanted, broken } = this;
    const any = wanted || broken;
    const changed = wanted !== this.trouble[0] || broken !== this.trouble[1];
    if (tick - this.feedbackAt < (any ? 1 : REGULAR) && !(any && changed)) return null;
    this.feedbackAt = tick;
    this.trouble = [wanted, broken];
    const tag = this.tag ?? 0;
    let state = null;
    let missing = [];
    if (wanted) missing = this.parts.get(tag)?.parts.missing ?? [];
    else {
      const held = this.keyframes.get(tag);
      for (const [frame, { keyframe }] of this.states) if (keyframe === held && !(state > frame)) state = frame;
    }
    return feedbackPacket({
      sequence: this.feedbackSequence++, timestamp: this.seen, tag, highestSequence: this.arrivals.newest ?? 0,
      fractionLost: this.arrivals.fractionLost(), state, broken, wanted, missing,
      orphaned: wanted && this.orphan === tag && !missing.length,
    });
  }

  takeMedia(packet, last) {
    this.seen = Math.max(this.seen ?? last, last);
    if (packet.units.length && last > this.tagAt) {
      this.tag = packet.tag;
      this.tagAt = last;
      // Tags come back after four keyframes; what is older than the one before must not be taken for a new one.
      for (const ahead of [1, 2]) this.keyframes.delete((this.tag + ahead) % TAGS);
    }
    this.takeSpeech(packet.speech.length ? packet.speech : this.notSent(packet), last);
    let end = last + 1;
    for (const unit of packet.units) {
      const first = end - unit.frames;
      if (!this.frames.has(first) && !this.waiting.has(first) && first > this.seen - KEEP && first >= 0) {
        this.waiting.set(first, { first, tag: packet.tag, unit });
      }
      end = first;
    }
    this.decodeWaiting();
  }

  /** Frames without a list of speech packets are frames in which nobody spoke. */
  notSent({ units }) {
    const count = units.length ? units[0].frames : 0;
    return new Array(count * (this.speech?.perFrame ?? 1)).fill(new Uint8Array(0));
  }

  takeSpeech(packets, last) {
    for (let back = 0; back < packets.length; back++) {
      const packet = packets[packets.length - 1 - back];
      if (this.speech) this.speech.add((last + 1) * this.speech.perFrame - 1 - back, packet);
      else if (this.earlySpeech.size < KEEP) this.earlySpeech.set(last * 256 + back, { last, back, packet });
    }
  }

  takePart({ tag, total, offset, data }, frame) {
    this.seen ??= frame;
    if (this.tag === null || frame > this.tagAt) {
      this.tag = tag;
      this.tagAt = Math.max(frame - 1, this.tagAt);
    }
    const held = this.keyframes.get(tag);
    if ((held && held.frame >= frame) || (!this.wanted && frame < this.newest - KEEP)) return null;
    let known = this.parts.get(tag) ?? { frame: -1, parts: new KeyframeParts(total) };
    if (known.frame !== frame || known.parts.total !== total) {
      if (known.frame > frame) return null;
      known = { frame, parts: new KeyframeParts(total) };
    }
    this.parts.set(tag, known);
    if (!known.parts.add(offset, data)) return null;
    this.parts.delete(tag);
    return this.takeKeyframe(known.parts.data, frame, tag);
  }

  async takeKeyframe(data, frame, tag) {
    try {
      const chunks = chunksOf(data);
      const header = chunks.findLast(({ kind }) => kind === "HEADER");
      const chunk = chunks.findLast(isKeyframe);
      if (!header || chunk?.tag !== tag) throw new BitstreamError("a keyframe object needs HEADER and KEYFRAME");
      if (!this.header) this.begin(header, chunks);
      const before = this.keyframes.get((tag + TAGS - 1) % TAGS)?.chain ?? [];
      let chain = [chunk.data];
      if (chunk.kind === "KEYFRAME_INTER") {
        if (!before.length || crc16(before.at(-1)) !== chunk.reference) {
          throw new ReferenceLost("the keyframe that it refers to is missing");
        }
        chain = [...before, chunk.data];
      }
      const picture = await this.decode(chain);
      this.tiny.reset(tinyOfPicture(picture));
      this.motion.reset();
      const state = { tiny: this.tiny.state, motion: this.motion.state };
      this.keyframes.set(tag, { frame, tag, picture, state, chain });
      this.decodeWaiting();
      this.orphan = null;
    } catch (error) {
      if (error instanceof UnsupportedVersion || !(error instanceof BitstreamError)) throw error;
      if (error instanceof ReferenceLost) this.orphan = tag;
      else this.damaged++;
    }
  }

  begin(header, chunks) {
    const motionTables = chunks.findLast(({ kind }) => kind === "MOTION_TABLES") ?? null;
    checkTables({ header, motionTables });
    this.hasMotion = motionTables !== null;
    if (header.audio) {
      const { packetSamples } = header.audio;
      if (!PACKET_SAMPLES.includes(packetSamples)) {
        throw new BitstreamError(`speech packets of ${packetSamples / 48} ms in a call`);
      }
      this.speech = new SpeechSchedule(header.audio);
      for (const { last, back, packet } of this.earlySpeech.values()) {
        this.speech.add((last + 1) * this.speech.perFrame - 1 - back, packet);
      }
    }
    this.header = header;
    this.earlySpeech.clear();
  }

  decodeWaiting() {
    for (let progress = true; progress;) {
      progress = false;
      for (const first of [...this.waiting.keys()].sort((a, b) => a - b)) {
        const waiting = this.waiting.get(first);
        const from = this.stateFor(waiting);
        if (!from) continue;
        this.waiting.delete(first);
        if (this.decodeUnit(waiting, from)) progress = true;
      }
    }
    const oldest = (this.seen ?? 0) - KEEP;
    for (const kept of [this.waiting, this.frames, this.states]) {
      for (const frame of kept.keys()) {
        // The newest frame stays, however old it is: until another comes, it is all that there is to show.
        if (frame < oldest && !(kept === this.frames && frame === this.newest)) kept.delete(frame);
      }
    }
  }

  stateFor({ first, tag, unit }) {
    const keyframe = this.keyframes.get(tag);
    if (!keyframe || first < keyframe.frame) return null;
    if (unit.reference === 0) return { keyframe, state: keyframe.state };
    const found = this.states.get(first - unit.reference);
    return found?.keyframe === keyframe ? found : null;
  }

  decodeUnit({ first, unit: { frames, payload } }, { keyframe, state }) {
    let motion = null;
    let tiny;
    try {
      const coder = new RangeDecoder(payload, "unit");
      if (this.hasMotion) motion = this.motion.read(coder, state.motion, frames);
      tiny = this.tiny.read(coder, state.tiny, frames);
      coder.finish();
    } catch (error) {
      if (!(error instanceof BitstreamError)) throw error;
      this.damaged++;
      return false;
    }
    for (let i = 0; i < frames; i++) {
      this.frames.set(first + i, {
        tiny: tiny.values[i], rgb: tinyToRgb(tiny.values[i]), motion: motion && motion.values[i], keyframe,
      });
    }
    const last = first + frames - 1;
    this.states.set(last, { keyframe, state: { tiny: tiny.state, motion: motion?.state ?? state.motion } });
    this.newest = Math.max(this.newest, last);
    return true;
  }
}
