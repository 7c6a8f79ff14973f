// A call, at its receiving end: whose packets they are, the clock, and what is shown at each of its ticks.

import { BitstreamError } from "./errors.js";
import { readChunk } from "./chunks.js";
import { SAMPLES_PER_FRAME } from "./jitter.js";
import { parsePacket, round } from "./packets.js";
import { Playout } from "./playout.js";
import { Reception } from "./reception.js";
import { Origin } from "./sequence.js";

export const FPS = 25;
const STANDING = 25; // ticks without a new frame for which the picture may still move with the sound
const SEARCH = 32; // frames in which a lost one looks for neighbours to be made from
const REACH = 2;
const RGB = 8 * 8 * 3;
const SIGNATURE = [0xc6, 0x54, 0x0d, 0x0a];
const LOST = 2; // in place of 1 behind a frame's motion numbers: they are made up

/**
 * `push` takes packets in any order; `pull` says which frame is shown now, and never fails; `feedback` what the sender
 * is told. Everything depends on the packets and the pulls alone.
 */
export class Call {
  /** `decode(chain)` makes a picture [256 * 256 * 3] of a chain of keyframes' data, or a promise of it. */
  constructor(tables, decode, { lookahead = 0 } = {}) {
    if (![0, 1, 2].includes(lookahead)) throw new RangeError(`lookahead must be 0, 1 or 2, not ${lookahead}`);
    Object.assign(this, { tables, decode, lookahead });
    this.reception = new Reception(tables, decode);
    this.playout = new Playout(lookahead);
    this.origin = new Origin();
    /** How many senders there have been, one after the other. */
    this.senders = 1;
    this.tick = 0;
    /** What the last `pull` gave: { number, time, state: "fresh" | "concealed" | "held" }; null before the first. */
    this.shown = null;
    this.shownCount = 0;
    this.queue = Promise.resolve();
    this.pending = 0;
  }

  /**
   * Take one packet (Uint8Array); a damaged one is counted and ignored. The promise is kept when it has been decoded. It is
   * broken with UnsupportedVersion if the call needs a newer reader, with BitstreamError if it begins with a piece of a
   * file.
   */
  push(packet) {
    if (!this.pending) {
      try {
        const decoding = this.take(packet);
        if (!decoding) return Promise.resolve();
        return this.hold(() => decoding);
      } catch (error) {
        return Promise.reject(error);
      }
    }
    return this.hold(() => this.take(packet));
  }

  /** Do something when what is being decoded is there; meanwhile packets wait. */
  hold(what) {
    this.pending++;
    const done = this.queue.then(what).finally(() => this.pending--);
    this.queue = done.catch(() => {});
    return done;
  }

  take(packet) {
    let parsed;
    try {
      parsed = parsePacket(packet);
    } catch (error) {
      if (!(error instanceof BitstreamError)) throw error;
      if (this.reception.seen === null && isOfAFile(packet)) {
        throw new BitstreamError("this is a piece of a .tfc file, and a Receiver is for calls: open files with Tfc.open");
      }
      this.reception.damaged++;
      return null;
    }
    if (parsed.kind === "FEEDBACK") return null;
    const { begun, packets } = this.origin.take(parsed);
    if (begun) { // the picture stands until the new sender's first one is there
      this.reception = new Reception(this.tables, this.decode);
      this.playout = new Playout(this.lookahead);
      this.senders++;
    }
    let decoding = null;
    for (const each of packets) {
      if (decoding) decoding = decoding.then(() => this.reception.take(each));
      else decoding = this.reception.take(each);
    }
    return decoding;
  }

  /** A tick of the clock: gives the number of the frame to draw, null if the picture stands. */
  pull() {
    this.tick++;
    const { reception, playout } = this;
    let frame = playout.choose(reception.newest, (number) => reception.frames.has(number), reception.end);
    if (frame !== null) {
      playout.shown(frame, reception.newest);
      this.shownCount++;
    } else {
      playout.hold();
      frame = this.standing();
    }
    if (frame !== null) {
      const state = reception.frames.has(frame) ? "fresh" : "concealed";
      this.shown = { number: frame, time: frame / FPS, state };
    } else if (this.shown) this.shown = { ...this.shown, state: "held" };
    return frame;
  }

  /** While the picture stands, a frame to draw though it has not come; null without speech or after a second. */
  standing() {
    const { reception: { speech, end }, playout: { position, waited } } = this;
    const ended = end !== null && position !== null && position >= end - 1;
    if (position === null || !speech || waited <= 0 || waited > STANDING || ended) return null;
    return position + waited;
  }

  /** The frame whose speech belongs to the last `pull`; null before the first. */
  get heard() {
    const { position, waited } = this.playout;
    return position === null ? null : position + waited - (this.lookahead ? 0 : 1);
  }

  /** What of the speech is to be decoded for the last `pull`, as `SpeechSchedule.until` gives it. */
  listen() {
    const { speech } = this.reception;
    if (!speech || this.heard === null) return [];
    return speech.until((this.heard + 1) * SAMPLES_PER_FRAME);
  }

  /** What to send back to the sender now, to be asked after every `pull`: a packet, or null. */
  feedback() {
    return this.pending ? null : this.reception.feedback(this.tick); // what is being decoded is not missing
  }

  /** How the call goes. */
  get stats() {
    const { reception, playout } = this;
    const { received, lost, duplicates, reordered, expected } = reception.arrivals;
    const delay = playout.position === null || reception.seen === null ? 0 : reception.seen - playout.position;
    return {
      received, lost, duplicates, reordered, damaged: reception.damaged, lostShare: lost / Math.max(1, expected),
      shown: this.shownCount, held: playout.held, skipped: playout.skipped, delayFrames: Math.max(0, delay),
      waitingForKeyframe: reception.wanted,
    };
  }
}

function isOfAFile(packet) {
  const signed = SIGNATURE.every((byte, i) => packet[i] === byte);
  try {
    readChunk(signed ? packet.subarray(SIGNATURE.length) : packet, 0);
    return true;
  } catch {
    return signed;
  }
}

/**
 * What a frame is drawn from: { keyframe, windows: tiny frames around it [5 * 192] RGB, motion [17] or null without that
 * layer }. Frames that are lost lie between their neighbours. Null before the first frame.
 */
export function sceneOf({ frames, newest }, frame) {
  const base = nearest(frames, frame);
  if (!base) return null;
  const { keyframe } = base;
  let last = Math.min(frame + REACH, Math.max(newest, frame));
  while (last > frame && frames.get(last)?.keyframe !== keyframe) last--;
  const first = Math.max(Math.min(keyframe.frame, frame), frame - REACH);
  const windows = new Uint8Array((2 * REACH + 1) * RGB);
  for (let k = -REACH; k <= REACH; k++) {
    const at = Math.min(Math.max(frame + k, first), last);
    const { before, after, share } = neighbours(frames, at, keyframe);
    windows.set(before.rgb.map((one, i) => round(one * (1 - share) + after.rgb[i] * share)), (k + REACH) * RGB);
  }
  return { keyframe, windows, motion: motionOf(frames, frame, keyframe) };
}

function nearest(frames, frame) {
  for (let back = 0; back < SEARCH; back++) if (frames.has(frame - back)) return frames.get(frame - back);
  for (let on = 1; on < SEARCH; on++) if (frames.has(frame + on)) return frames.get(frame + on);
  return frames.size ? frames.get(Math.max(...frames.keys())) : null;
}

/** The known frames between which a frame lies, and how far it is on the way; twice the same if there is but one. */
function neighbours(frames, frame, keyframe) {
  const under = (number) => (frames.get(number)?.keyframe === keyframe ? frames.get(number) : null);
  const found = under(frame);
  if (found) return { before: found, after: found, share: 0 };
  let back = 1;
  let on = 1;
  while (back < SEARCH && !under(frame - back)) back++;
  while (on < SEARCH && !under(frame + on)) on++;
  const before = back < SEARCH ? under(frame - back) : null;
  const after = on < SEARCH ? under(frame + on) : null;
  if (before && after) return { before, after, share: back / (back + on) };
  const only = before ?? after ?? frames.get(Math.max(...frames.keys()));
  return { before: only, after: only, share: 0 };
}

function motionOf(frames, frame, keyframe) {
  const { before, after, share } = neighbours(frames, frame, keyframe);
  if (!before.motion) return null;
  const [one, other] = [before.motion, after.motion];
  if (before === after) {
    const held = one.slice();
    if (held[16] && before !== frames.get(frame)) held[16] = LOST;
    return held;
  }
  if (!one[16] || !other[16]) return share < 0.5 ? one : other; // nothing lies between a face and none
  return one.map((number, i) => round(number * (1 - share) + other[i] * share));
}
