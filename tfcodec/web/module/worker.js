// Decodes and draws away from the page's own thread. Messages are { id, method, args }; answers { id, result } or
// { id, error: { name, message } }.

import { OPUS, isKeyframe, isLayer } from "./chunks.js";
import { read } from "./container.js";
import { MediaError, TfcodecError } from "./errors.js";
import { groupAt, groupsOf } from "./exact.js";
import { decodeKeyframe, prepareDecoder } from "./keyframe.js";
import { NO_MOTION } from "./layers.js";
import { LogMel } from "./mel.js";
import { Network } from "./network.js";
import { prepareEngine } from "./programs.js";
import { decodeSpeech } from "./speech.js";
import { expect, loadTables } from "./tables.js";

// What every stream needs begins before it is known which one.
prepareEngine().catch(() => {});
loadTables().catch(() => {});
prepareDecoder();

const networks = new Map(); // by where they were loaded from
const hands = new Map(); // what takes files that the page fetches, by address
const clips = new Map();
let tables = null;
let nextClip = 1;
/** The call that this worker draws, if it does: where its network is, the network, and its newest keyframe. */
const call = { where: null, network: null, group: null };

function networkOf(where) {
  const name = JSON.stringify(where);
  if (!networks.has(name)) {
    const loading = Network.load(where);
    loading.catch(() => networks.delete(name));
    networks.set(name, loading);
  }
  return networks.get(name);
}

const described = ({ threads, provider, card }) => ({ threads, backend: provider, network: card.network });

/**
 * Compute what the network takes of a keyframe while the speech is decoded. Graphics cards wait: a graph does not run
 * twice at a time. Errors are those that drawing meets again.
 */
async function keyAhead(group, where) {
  try {
    const [network] = await Promise.all([networkOf(where), group.picture()]);
    if (network.provider === "wasm") await network.keyOf(group);
  } catch {
    // see draw()
  }
}

/** What the network hears of a clip's speech, which is kept in 16 bits. */
function melOf(speech, fps, frames) {
  const kept = new Int16Array(speech.length);
  for (let i = 0; i < kept.length; i++) kept[i] = Math.min(Math.max(Math.round(32768 * speech[i]), -32768), 32767);
  return new LogMel((i) => (kept[i] ?? 0) / 32768, fps, frames);
}

function clipOf(number) {
  if (!clips.has(number)) throw new MediaError("the clip is closed");
  return clips.get(number);
}

/** Bytes of each kind, by the second that they belong to. */
function bytesBySecond(stream) {
  const [over, under] = stream.header.rate;
  const { audio } = stream.header;
  const seconds = Array.from({ length: Math.ceil((stream.frameCount * under) / over) }, () => ({
    keyframe: 0, motion: 0, tiny: 0, displacement: 0, audio: 0,
  }));
  const put = (kind, time, bytes) => {
    seconds[Math.min(Math.max(Math.floor(time), 0), seconds.length - 1)][kind] += bytes;
  };
  for (const chunk of stream.chunks) {
    if (isKeyframe(chunk)) put("keyframe", (chunk.frame * under) / over, chunk.size);
    else if (isLayer(chunk)) {
      for (let i = 0; i < chunk.count; i++) {
        put(chunk.layer, ((chunk.frame + i) * under) / over, chunk.size / chunk.count);
      }
    } else if (chunk.kind === "SPEECH" && !audio.unknown) {
      chunk.packets.forEach((packet, i) => {
        put("audio", ((chunk.firstPacket + i) * audio.packetSamples - audio.preSkip) / 48000, packet.length);
      });
    }
  }
  return seconds;
}

const methods = {
  /** Begin to load a network, and the tables; whoever asks for a picture waits for it. */
  async preload({ where }) {
    networkOf(where);
    loadTables().catch(() => {});
    return [null, []];
  },

  /** Read a clip: what it holds, and its speech. */
  async open({ bytes, limits, where }) {
    const data = new Uint8Array(bytes);
    const stream = read(data, { anySpeech: true, ...limits });
    tables = await loadTables();
    const groups = groupsOf(stream, tables, decodeKeyframe);
    const ahead = where && groups.length ? keyAhead(groups[0], where) : null;
    groups[0]?.upTo(1).catch(() => {}); // beside the speech; the first picture hears of it
    const { header } = stream;
    const { audio } = header;
    let speech = null;
    let notice = null;
    if (audio && audio.codec !== OPUS) {
      const name = { 2: "Codec2", 3: "Lyra" }[audio.codec] ?? `codec ${audio.codec}`;
      notice = `There is no sound: the speech is coded with ${name}, which this player cannot decode.`;
    } else if (audio) speech = await decodeSpeech(stream);
    const clip = nextClip++;
    const fps = header.rate[0] / header.rate[1];
    clips.set(clip, { stream, groups, ahead, mel: speech && melOf(speech, fps, stream.frameCount) });
    const info = {
      frames: stream.frameCount, fps, durationSeconds: stream.frameCount / fps, modelId: header.modelId,
      modelHash: Array.from(header.modelHash, (byte) => byte.toString(16).padStart(2, "0")).join(""),
      keyframes: groups.length, interKeyframes: groups.flatMap(({ chain, number }) => (chain.length > 1 ? number : [])),
      hasAudio: audio !== null, hasMotion: stream.motionTables !== null,
      hasDisplacement: stream.displacementTables !== null,
      bytes: stream.bytes, notice,
    };
    return [{ clip, info, speech, seconds: bytesBySecond(stream) }, speech ? [speech.buffer] : []];
  },

  /** Load the network and check that the clip names it. */
  async load({ clip, where }) {
    const network = await networkOf(where);
    const opened = clipOf(clip);
    network.check(opened.stream.header);
    opened.network = network;
    return [described(network), []];
  },

  async draw({ clip, frame }) {
    const { groups, network, mel, ahead } = clipOf(clip);
    await ahead;
    const pixels = await network.draw(groupAt(groups, frame), frame, tables.synthesis, mel);
    return [{ pixels }, [pixels.buffer]];
  },

  /** What is exact of a frame: its tiny frame's samples, its motion and displacement, its keyframe's number. */
  async exact({ clip, frame }) {
    const group = groupAt(clipOf(clip).groups, frame);
    await group.upTo(frame + 1);
    const [tiny, motion, displacement] = [group.tinyOf(frame), group.motionOf(frame), group.displacementOf(frame)];
    return [{ tiny, motion, displacement, keyframe: group.number }, []];
  },

  /** A frame's keyframe as decoded, RGB [256 * 256 * 3]. */
  async keyframe({ clip, frame }) {
    const group = groupAt(clipOf(clip).groups, frame);
    return [{ first: group.first, number: group.number, pixels: await group.picture() }, []];
  },

  /** Load the network of a call before the call begins. */
  async prepare({ where }) {
    call.where = where;
    tables = await loadTables();
    const { backend } = await networkOf(where);
    // Lost frames need them, and at once.
    await Promise.all(["guess", "lips"].filter((name) => backend.has(name)).map((name) => backend.need(name)));
    return [null, []];
  },

  /** Check that the network is the one that the call names. */
  async loadCall(header) {
    call.network = await networkOf(call.where);
    call.network.check(header);
    return [described(call.network), []];
  },

  /** Draw a frame of a call; `picture` is its keyframe's if that is another than the frame's before. */
  async scene({ picture, windows, motion, sound }) {
    if (picture) call.group = { picture: async () => picture };
    const scene = { windows, motion: motion ?? NO_MOTION, sound };
    const pixels = await call.network.drawFrom(call.group, scene, tables.synthesis);
    return [{ pixels }, [pixels.buffer]];
  },

  async close({ clip }) {
    clips.delete(clip);
    return [null, []];
  },
};

// One after the other: two runs of one session at a time are not allowed, and would not be faster.
let queue = Promise.resolve();

self.onmessage = ({ data: { id, method, args } }) => {
  if (method === "file") {
    hands.get(args.url)?.(args.bytes); // what is under way waits for it
    return;
  }
  if (method === "preload") for (const url of args.files ?? []) hands.set(url, expect(url));
  queue = queue.then(async () => {
    try {
      const [result, transfer] = await methods[method](args);
      self.postMessage({ id, result }, transfer);
    } catch (error) {
      const { name, message } = error instanceof TfcodecError ? error : { name: "Error", message: String(error) };
      self.postMessage({ id, error: { name, message } });
    }
  });
};
