// What a file says, exactly: keyframes and the layers under them, decoded as they are needed.

import { hex } from "./bytes.js";
import { isKeyframe } from "./chunks.js";
import { UnsupportedVersion } from "./errors.js";
import { DisplacementDecoder, MotionDecoder, NO_MOTION, TinyDecoder } from "./layers.js";
import { MovedKeyframe } from "./moved.js";
import { tinyOfPicture } from "./planes.js";
import { DISPLACEMENT, MOTION, TINY_ID } from "./tables.js";

/** Throw UnsupportedVersion unless the stream's tables are those of this module. */
export function checkTables({ header, motionTables, displacementTables = null }) {
  if (header.tablesId !== TINY_ID) {
    throw new UnsupportedVersion(`the stream uses entropy tables ${header.tablesId}; this reader has ${TINY_ID} [R40]`);
  }
  if (motionTables) checkNamed("motion", motionTables.motionId, motionTables.motionHash, MOTION, 62);
  if (displacementTables) {
    const { displacementId, displacementHash } = displacementTables;
    checkNamed("displacement", displacementId, displacementHash, DISPLACEMENT, 73);
  }
}

function checkNamed(layer, id, named, here, rule) {
  const hash = hex(named);
  if (id === here.id && hash === here.hash) return;
  throw new UnsupportedVersion(
    `the stream needs ${layer} tables ${id} (${hash}); this reader has ${here.id} (${here.hash}) [R${rule}]`,
  );
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
    /** What is decoded so far of each layer. */
    this.values = { tiny: [], motion: [], displacement: [] };
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
    const { tiny, motion, displacement } = this.tables;
    this.decoders = {
      tiny: new TinyDecoder(tiny),
      motion: new MotionDecoder(motion),
      displacement: new DisplacementDecoder(displacement),
    };
    const still = tinyOfPicture(picture);
    this.decoders.tiny.reset(still);
    this.keyframe = new MovedKeyframe(picture, still);
    return picture;
  }

  /** Decode the layers up to a frame of the stream, which is not decoded itself. Throws BitstreamError. */
  async upTo(frame) {
    await this.picture();
    const wanted = Math.min(frame, this.end) - this.first;
    while (this.values.tiny.length < wanted) {
      if (this.failure) throw this.failure;
      const chunk = this.chunks[this.next];
      const { kind, layer, data, count } = chunk;
      try {
        const found = this.decoders[layer].decode(data, count);
        this.values[layer].push(...(kind === "TINY_MOVED" ? this.restore(found, chunk) : found));
      } catch (error) {
        this.failure = error; // the layer's state is lost
        throw error;
      }
      this.next++;
      if (layer === "tiny") this.hold();
    }
  }

  /** The tiny frames that are coded as a difference from those of the keyframe, moved. */
  restore(coded, chunk) {
    const first = chunk.frame - this.first;
    return this.keyframe.restore(coded, chunk, this.values.motion.slice(first, first + chunk.count));
  }

  /** Displacement that was not sent with the tiny frames is that of the frame before. */
  hold() {
    const { tiny, displacement } = this.values;
    const missing = tiny.length - displacement.length;
    if (missing > 0) displacement.push(...this.decoders.displacement.lose(missing));
  }

  /** Samples [96] of a frame, or of the nearest that the keyframe has. */
  tinyOf(frame) {
    return this.values.tiny[Math.min(Math.max(frame, this.first), this.end - 1) - this.first];
  }

  /** The motion [17] of a frame; zeros where the stream has none. */
  motionOf(frame) {
    return this.values.motion[frame - this.first] ?? NO_MOTION;
  }

  /** The displacement [12] of a frame in 1/32 pixel; zeros where the stream has none. */
  displacementOf(frame) {
    return this.values.displacement[frame - this.first];
  }
}

/** The frames of a stream that `read` gave, by keyframe; `decode` makes a picture of a chain of keyframes' data. */
export function groupsOf(stream, tables, decode) {
  checkTables(stream);
  const groups = [];
  let chunks = [];
  let keyframe = null;
  let chain = [];
  const announced = { tiny: true, motion: stream.motionTables, displacement: stream.displacementTables };
  const close = (end) => {
    if (keyframe) groups.push(new Group(keyframe, groups.length, end, chain, chunks, tables, decode));
    chunks = [];
  };
  for (const chunk of stream.chunks) {
    if (isKeyframe(chunk)) {
      close(chunk.frame);
      keyframe = chunk;
      chain = chunk.kind === "KEYFRAME" ? [chunk.data] : [...chain, chunk.data];
    } else if (announced[chunk.layer]) chunks.push(chunk);
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
