// Speech of a call: packets in any order, taken in turn as far as the pictures have got. Which ones, not how they sound.

const STEP = 3; // samples at 48 kHz of one at 16 kHz
export const SAMPLES_PER_FRAME = 640;
const KEEP = 32000; // samples: after a longer gap nobody can hear what was before it
const MOST_PENDING = 4096;

export class SpeechSchedule {
  constructor(audio) {
    /** Samples at 16 kHz of a packet, and of what comes before time 0. */
    this.size = audio.packetSamples / STEP;
    this.skip = Math.floor(audio.preSkip / STEP);
    this.audio = audio;
    this.packets = new Map();
    this.next = 0;
  }

  /** Packets that last as long as a frame. */
  get perFrame() {
    return Math.max(1, Math.floor(SAMPLES_PER_FRAME / this.size));
  }

  /** Take a packet; an empty one stands for one that was not sent, and never for one that is here. */
  add(index, packet) {
    if (!packet.length && this.packets.get(index)?.length) return;
    if (index >= this.next && this.packets.size < MOST_PENDING) this.packets.set(index, packet);
  }

  /**
   * What is to be decoded now, in turn, so that all sound before the sample `end` (at 16 kHz) is there: { first: its
   * first sample, packet: its bytes, none if it was not sent, or null if it is lost }.
   */
  until(end) {
    // A receiver that joins late has nothing to decode before its first packet.
    if (this.next === 0 && this.packets.size && !this.packets.has(0)) this.next = Math.min(...this.packets.keys());
    const have = this.next * this.size - this.skip;
    if (end - have > KEEP) {
      this.next += Math.floor((end - have) / this.size);
      for (const index of this.packets.keys()) if (index < this.next) this.packets.delete(index);
    }
    const items = [];
    while (this.next * this.size - this.skip < end) {
      items.push({ first: this.next * this.size - this.skip, packet: this.packets.get(this.next) ?? null });
      this.packets.delete(this.next++);
    }
    return items;
  }
}
