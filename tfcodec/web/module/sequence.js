// Numbers of 16 bits that wrap, and whose they are: appendix B.1 of the specification.

const WRAP = 0x10000;
const HISTORY = 512;
const JUMP = 512; // packets of one end follow one another within so many numbers
const PACKETS_PER_FRAME = 8; // at most, over a second and more
const SURE = 3; // packets in a row that must be somebody else's before they are believed
const BEFORE = 250; // frames: what names an older one than so many before the newest is somebody else's
/** Frames by which a packet may be ahead of what is known. */
export const MAX_GAP = 1500;

const mod = (value) => ((value % WRAP) + WRAP) % WRAP;

/** How far one number of 16 bits is ahead of another. */
const ahead = (one, other) => mod(one - other + WRAP / 2) - WRAP / 2;

/** The number nearest to `near` whose lowest 16 bits are `low`; never negative. */
export function extend(low, near) {
  const value = near + ahead(low, near);
  return value >= 0 ? value : value + WRAP;
}

/** Where a receiver begins to count its packets. */
export const firstNumber = () => crypto.getRandomValues(new Uint16Array(1))[0];

/** Follows the numbers of one direction: what was received, lost, doubled and out of order. */
export class SequenceCounter {
  constructor() {
    /** Highest number so far, made whole; null before the first. */
    this.newest = null;
    this.received = 0;
    this.duplicates = 0;
    this.reordered = 0;
    this.first = 0;
    this.seen = new Set();
    this.reported = [0, 0];
  }

  /** Take the 16 bits of a packet's number; false for a second copy. */
  add(low) {
    let number = low + WRAP; // so that earlier ones that come later have room below
    if (this.newest === null) this.newest = this.first = number;
    else number = extend(low, this.newest);
    if (this.seen.has(number)) {
      this.duplicates++;
      return false;
    }
    if (number < this.newest) {
      this.reordered++;
      this.first = Math.min(this.first, number);
    }
    this.newest = Math.max(this.newest, number);
    this.received++;
    this.seen.add(number);
    if (this.seen.size > 2 * HISTORY) {
      this.seen = new Set([...this.seen].filter((n) => n > this.newest - HISTORY));
    }
    return true;
  }

  /** Packets sent, as far as this end can know. */
  get expected() {
    return this.newest === null ? 0 : this.newest - this.first + 1;
  }

  get lost() {
    return Math.max(0, this.expected - this.received);
  }

  /** Share of packets lost since the last call of this method, 0 to 1. */
  fractionLost() {
    const { expected, lost, reported } = this;
    this.reported = [expected, lost];
    const fresh = expected - reported[0];
    return fresh > 0 ? Math.min(1, Math.max(0, lost - reported[1]) / fresh) : 0;
  }
}

/** Whose packets these are. Somebody else's are kept back until it is sure that a call began anew. */
export class Origin {
  constructor() {
    this.newest = null;
    this.frame = null;
    this.others = [];
  }

  /**
   * Take a parsed packet: { begun, packets }, whether a new sender has begun and what is to be taken now. The
   * timestamp of a keyframe says nothing: it may be old.
   */
  take(packet) {
    const { sequence } = packet;
    const timestamp = packet.kind === "KEYFRAME" ? null : packet.timestamp;
    if (this.newest === null || belongs(sequence, timestamp, this.newest, this.frame)) {
      this.others = [];
      this.follow(sequence, timestamp);
      return { begun: false, packets: [packet] };
    }
    const last = this.others.at(-1);
    if (last && !belongs(sequence, timestamp, last.sequence, last.timestamp)) this.others = [];
    this.others.push({ sequence, timestamp, packet });
    if (new Set(this.others.map((other) => other.sequence)).size < SURE) {
      this.others = this.others.slice(-2 * SURE);
      return { begun: false, packets: [] };
    }
    const { others } = this;
    Object.assign(this, { others: [], newest: null, frame: null });
    for (const other of others) this.follow(other.sequence, other.timestamp);
    return { begun: true, packets: others.map((other) => other.packet) };
  }

  follow(sequence, timestamp) {
    const far = timestamp === null || this.frame === null ? 0 : ahead(timestamp, this.frame);
    if (far > MAX_GAP) return;
    if (this.newest === null || ahead(sequence, this.newest) > 0) this.newest = sequence;
    if (timestamp !== null && (this.frame === null || ahead(timestamp, this.frame) > 0)) this.frame = timestamp;
  }
}

function belongs(sequence, timestamp, newest, frame) {
  const frames = timestamp === null || frame === null ? 0 : ahead(timestamp, frame);
  const packets = ahead(sequence, newest);
  // After an outage both are far ahead, packets by no more than they can be for so many frames.
  return frames >= -BEFORE && -JUMP <= packets && packets <= JUMP + PACKETS_PER_FRAME * Math.max(0, frames);
}
