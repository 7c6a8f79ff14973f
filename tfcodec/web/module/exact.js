// What a file says, exactly: keyframes, tiny frames and motion, decoded as they are needed.

import { hex } from "./bytes.js";
import { isKeyframe } from "./chunks.js";
import { UnsupportedVersion } from "./errors.js";
import { MotionDecoder, NO_MOTION, TinyDecoder } from "./layers.js";
import { tinyOfPicture } from "./planes.js";
import { MOTION, TINY_ID } from "./tables.js";

/** Throw UnsupportedVersion unless the stream's tables are those of this module. */
export function checkTables({ header, motionTables }) {
  if (header.tablesId !== TINY_ID) {
    throw new UnsupportedVersion(`the stream uses entropy tables ${header.tablesId}; this reader has ${TINY_ID} [R40]`);
  }
  if (!motionTables) return;
  const named = hex(motionTables.motionHash);
  if (motionTables.motionId !== MOTION.id || named !== MOTION.hash) {
    throw new UnsupportedVersion(
      `the stream needs motion tables ${motionTables.motionId} (${named}); this reader has ${MOTION.id} (${MOTION.hash}) ` +
        "[R62]",
    );
  }
}

/** The frames of one keyframe. */
export class Group {
  constructor(keyframe, number, end, chain, chunks, tables, decode) {
    /** Number of the keyframe, its first frame, and the frame after its last. */
    Object.assign(this, { number, first: keyframe.frame, end });
    /** `data` of the keyframes that its own is decoded from, and of that one. */
    this.chain = chain;
    this.chunks = chunks;
    this.next = 0;
    this.tables = tables;
    this.decode = decode;
    this.tiny = [];
    this.motion = [];
    this.opened = null;
    this.failure = null;
  }

  /** The keyframe's picture [256 * 256 * 3] RGB. */
  async picture() {
    this.opened ??= this.open();
    return this.opened;
  }

  async open() {
    const picture = await this.decode(this.chain);
    this.tinyDecoder = new TinyDecoder(this.tables.tiny);
    this.tinyDecoder.reset(tinyOfPicture(picture));
    this.motionDecoder = new MotionDecoder(this.tables.motion);
    return picture;
  }

  /** Decode the layers up to a frame of the stream, which is not decoded itself. Throws BitstreamError. */
  async upTo(frame) {
    await this.picture();
    const wanted = Math.min(frame, this.end) - this.first;
    while (this.tiny.length < wanted) {
      if (this.failure) throw this.failure;
      const chunk = this.chunks[this.next];
      const layer = chunk.kind === "MOTION" ? this.motionDecoder : this.tinyDecoder;
      try {
        (chunk.kind === "MOTION" ? this.motion : this.tiny).push(...layer.decode(chunk.data, chunk.count));
      } catch (error) {
        this.failure = error; // the layer's state is lost
        throw error;
      }
      this.next++;
    }
  }

  /** Samples [96] of a frame, or of the nearest that the keyframe has. */
  tinyOf(frame) {
    return this.tiny[Math.min(Math.max(frame, this.first), this.end - 1) - this.first];
  }

  /** The motion [17] of a frame; zeros where the stream has none. */
  motionOf(frame) {
    return this.motion[frame - this.first] ?? NO_MOTION;
  }
}

/** The frames of a stream that `read` gave, by keyframe; `decode` makes a picture of a chain of keyframes' data. */
export function groupsOf(stream, tables, decode) {
  checkTables(stream);
  const groups = [];
  let chunks = [];
  let keyframe = null;
  let chain = [];
  const close = (end) => {
    if (keyframe) groups.push(new Group(keyframe, groups.length, end, chain, chunks, tables, decode));
    chunks = [];
  };
  for (const chunk of stream.chunks) {
    if (isKeyframe(chunk)) {
      close(chunk.frame);
      keyframe = chunk;
      chain = chunk.kind === "KEYFRAME" ? [chunk.data] : [...chain, chunk.data];
    } else if (chunk.kind === "TINY" || (chunk.kind === "MOTION" && stream.motionTables)) chunks.push(chunk);
  }
  close(stream.frameCount);
  return groups;
}

/** The group that a frame belongs to. */
export function groupAt(groups, frame) {
  let low = 0;
  let high = groups.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (groups[middle].first <= frame) low = middle;
    else high = middle;
  }
  return groups[low];
}
