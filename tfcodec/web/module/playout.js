// Which frame a receiver of a call shows at each tick of its own clock. Numbers only.

const WINDOW = 25; // ticks in a row at which frames must have been there early before the delay is shortened
const MAX_LAG = 5; // frames behind the newest at which the clock jumps: in a call the latest frame wins

/**
 * The next frame is shown when it, and `lookahead` more, are there. When they are not, the clock waits. Frames that turn
 * out to be lost are made up for by skipping, so that a loss adds no delay; delay that came from late packets is given
 * back when they have been on time for a second.
 */
export class Playout {
  constructor(lookahead) {
    this.lookahead = lookahead;
    /** Number of the frame shown last; null before the first. */
    this.position = null;
    /** Ticks since then at which nothing could be shown. */
    this.waited = 0;
    /** Frames left out to keep the delay short, and ticks at which the picture before was shown again. */
    this.skipped = 0;
    this.held = 0;
    this.surplus = [];
  }

  /** The frame to show next, or null if there is none yet. `known(frame)` tells which have been decoded. */
  choose(newest, known, end) {
    const limit = end !== null && newest >= end - 1 ? newest : newest - this.lookahead;
    if (this.position === null) {
      if (newest < 0) return null;
      // Two frames that came together are shown one after the other.
      const first = known(limit - 1) ? limit - 1 : limit;
      return known(first) ? first : null;
    }
    let target = this.position + 1;
    if (target > limit) return null;
    // While the clock waited for frames that, as is known now, were lost, the last picture stood in for them.
    for (let { waited } = this; waited && target < limit && !known(target); waited--) target++;
    if (limit - target >= MAX_LAG) return limit;
    if (this.surplus.length === WINDOW && Math.min(...this.surplus) > 0 && target < limit) {
      this.surplus = [];
      target++;
    }
    return target;
  }

  /** That frame is shown now; `newest` is the newest that could have been shown instead. */
  shown(frame, newest) {
    if (this.position !== null) {
      const passed = frame - this.position - 1;
      this.skipped += Math.max(0, passed - this.waited);
      if (passed) this.surplus = []; // another delay has begun
    }
    this.surplus.push(newest - this.lookahead - frame);
    if (this.surplus.length > WINDOW) this.surplus.shift();
    this.position = frame;
    this.waited = 0;
  }

  /** There was nothing to show. */
  hold() {
    if (this.position === null) return;
    this.waited++;
    this.held++;
    this.surplus = [];
  }
}
