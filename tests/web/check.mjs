// What the JavaScript module makes of what Python hands it: node check.mjs MODULE JOB ANSWERS (see test_web_module.py).

import { readFileSync } from "node:fs";
import { answer, bytes, job, sha, tables, use } from "./job.mjs";

const { read } = await use("container");
const { KINDS } = await use("chunks");
const { crc16, crc32, hex } = await use("bytes");
const { groupsOf, groupAt } = await use("exact");
const { chainPackets } = await use("chain");
const { decoderInput, packetsOf, lostPacket } = await use("speech");
const { fillGaps, filterOf } = await use("comfort");
const { LogMel } = await use("mel");
const { TinyDecoder, MotionDecoder, DisplacementDecoder } = await use("layers");
const { MovedKeyframe } = await use("moved");
const { planesToRgb, tinyOfPicture, tinyToRgb } = await use("planes");
const { synthesise } = await use("marks");

/** The result of an attempt, or what it threw. */
function attempt(what) {
  try {
    return what();
  } catch (error) {
    return failed(error);
  }
}

function failed(error) {
  if (!error.rule) throw error;
  const offset = /^byte (\d+):/.exec(error.message);
  return { error: error.name, rule: error.rule, offset: offset ? Number(offset[1]) : null };
}

function chunk(c) {
  const layer = (x) => [x.kind, x.frame, x.count, x.tag, hex(x.data)];
  const audio = (a) => (a ? [a.codec, a.packetSamples, a.preSkip, a.totalSamples] : null);
  return {
    HEADER: () => [
      c.kind, c.version, c.minReaderVersion, c.profile, c.experimental, c.rate, c.frameCount, c.modelId,
      hex(c.modelHash), c.tablesId, audio(c.audio),
    ],
    KEYFRAME: () => [c.kind, c.frame, c.tag, hex(c.data)],
    KEYFRAME_INTER: () => [c.kind, c.frame, c.tag, c.reference, hex(c.data)],
    TINY: () => layer(c),
    TINY_MOVED: () => [...layer(c), c.shape, c.x, c.y, c.distance],
    MOTION: () => layer(c),
    MOTION_TABLES: () => [c.kind, c.motionId, hex(c.motionHash)],
    DISPLACEMENT: () => layer(c),
    DISPLACEMENT_TABLES: () => [c.kind, c.displacementId, hex(c.displacementHash)],
    SPEECH: () => [c.kind, c.firstPacket, c.packets.map(hex)],
    END: () => [c.kind, c.frameCount, c.audioSamples],
    META: () => [
      c.kind, c.crops.map((x) => [x.firstFrame, x.sourceWidth, x.sourceHeight, x.x, x.y, x.side]), c.texts,
    ],
    PADDING: () => [c.kind, c.length],
    unknown: () => [c.kind, c.type, hex(c.payload)],
  }[c.kind]();
}

function stream(data, limits) {
  const found = read(data, limits);
  return {
    chunks: found.chunks.map(chunk), frames: found.frameCount, samples: found.audioSamples, bytes: found.bytes,
  };
}

async function exact(path, pictures) {
  try {
    const found = read(new Uint8Array(readFileSync(path)));
    let next = 0;
    const groups = groupsOf(found, tables, async (chain) => {
      chainPackets(chain);
      return new Uint8Array(readFileSync(pictures[next++]));
    });
    const tiny = [];
    const motion = [];
    const displacement = [];
    for (let frame = 0; frame < found.frameCount; frame++) {
      const group = groupAt(groups, frame);
      await group.upTo(frame + 1);
      tiny.push(...tinyToRgb(group.tinyOf(frame)));
      motion.push(...group.motionOf(frame));
      displacement.push(...group.displacementOf(frame));
    }
    if (found.header.audio) packetsOf(found);
    const numbers = (there, values) => (there ? sha(Int16Array.from(values)) : null);
    return {
      tiny: sha(Uint8Array.from(tiny)), motion: numbers(found.motionTables, motion),
      displacement: numbers(found.displacementTables, displacement),
    };
  } catch (error) {
    return failed(error);
  }
}

const state = ({ lowerHigh, lowerLow, rangeHigh, rangeLow, words }) => {
  const whole = (high, low) => [high, low].map((half) => half.toString(16).padStart(8, "0")).join("");
  return { lower: whole(lowerHigh, lowerLow), range: whole(rangeHigh, rangeLow), words };
};

function numbersRun(decoder, run) {
  return run.map(([payload, frames]) => attempt(() => {
    const found = payload === null ? decoder.lose(frames) : decoder.decode(bytes(payload), frames);
    const said = payload === null ? {} : state(decoder.coder);
    return { values: sha(Int16Array.from(found.flatMap((frame) => [...frame]))), ...said };
  }));
}

function tinyRun({ reference, payloads }) {
  const decoder = new TinyDecoder(tables.tiny);
  decoder.reset(Int16Array.from(reference));
  return payloads.map(([payload, frames]) => attempt(() => {
    const found = payload === null ? decoder.lose(frames) : decoder.decode(bytes(payload), frames);
    return { values: sha(Int16Array.from(found.flatMap((frame) => [...frame]))) };
  }));
}

function movedRun({ picture, coded, heads, motion }) {
  const rgb = new Uint8Array(readFileSync(picture));
  const keyframe = new MovedKeyframe(rgb, tinyOfPicture(rgb));
  const [samples, numbers] = [coded, motion].map((rows) => rows.map((row) => Int16Array.from(row)));
  return heads.map(([shape, x, y, distance]) => sha(...keyframe.restore(samples, { shape, x, y, distance }, numbers)));
}

const pool = job.streams.length ? readFileSync(job.pool) : null;
let at = 0;
const answers = {
  kinds: [...KINDS.keys()],
  crc: [crc16(Buffer.from("123456789")), crc32(Buffer.from("123456789"))],
  streams: job.streams.map((length) => {
    const data = new Uint8Array(pool.subarray(at, (at += length)));
    return attempt(() => stream(data));
  }),
  anySpeech: job.anySpeech.map((text) => attempt(() => stream(bytes(text), { anySpeech: true }))),
  exact: [],
  motion: job.motion.map((run) => numbersRun(new MotionDecoder(tables.motion), run)),
  displacement: job.displacement.map((run) => numbersRun(new DisplacementDecoder(tables.displacement), run)),
  tiny: job.tiny.map(tinyRun),
  moved: movedRun(job.moved),
  chains: job.chains.map((chain) => attempt(() => chainPackets(chain.map(bytes)).map(hex))),
  lost: job.lost.map(([config, samples]) => hex(lostPacket(config, samples))),
  gaps: job.gaps.map((list) => decoderInput(list.map((text) => (text ? bytes(text) : null)), 1920)
    .map(({ number, data }) => [number, hex(data)])),
  comfort: job.comfort.map(({ path, sent, size }) => {
    const sound = new Float32Array(readFileSync(path).buffer);
    const heard = sound.slice(0, sent.indexOf(false) * size);
    fillGaps(sound, sent, size);
    return { filter: [...filterOf(heard)], sound: [...sound] };
  }),
  mel: job.mel.fps.map((fps) => {
    const sound = new Float32Array(readFileSync(job.mel.path).buffer);
    const mel = new LogMel((i) => sound[i] ?? 0, fps, Math.floor((sound.length * fps) / 16000));
    return job.mel.frames.flatMap((frame) => [...mel.window(frame)]);
  }),
  pictures: job.pictures.map((path) => {
    const planes = new Uint8Array(readFileSync(path));
    const rgb = planesToRgb(planes.subarray(0, 65536), planes.subarray(65536, 81920), planes.subarray(81920));
    const tiny = tinyOfPicture(rgb);
    return { rgb: sha(rgb), tiny: sha(tiny), small: sha(tinyToRgb(tiny)) };
  }),
  marks: job.marks.map(({ reference, numbers }) =>
    [...synthesise(tables.synthesis, Float64Array.from(reference), Int16Array.from(numbers))]),
};
for (const { path, pictures } of job.exact) answers.exact.push(await exact(path, pictures));
answer(answers);
