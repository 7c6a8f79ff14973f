// What the receiver in JavaScript makes of calls that Python hands it: node call.mjs MODULE JOB ANSWERS (see
// test_web_call.py).

import { readFileSync } from "node:fs";
import { answer, bytes, job, sha, tables, use } from "./job.mjs";

const { hex } = await use("bytes");
const { Call, sceneOf } = await use("call");
const { parsePacket, feedbackPacket, KeyframeParts } = await use("packets");

/** The picture of a chain of keyframes, which Python decoded; undecodable ones are refused as a browser does. */
function decode(chain) {
  const path = job.pictures[chain.map((data) => sha(data)).join()];
  return new Uint8Array(readFileSync(path));
}

const said = (packet) => (packet && packet.kind === "FEEDBACK"
  ? [packet.timestamp, packet.tag, packet.highestSequence, packet.fractionLost, packet.state, packet.broken,
    packet.wanted, packet.missing, packet.orphaned]
  : null);

async function play({ events, lookahead }) {
  const call = new Call(tables, decode, { lookahead });
  const out = [];
  for (const event of events) {
    if (event !== null) {
      await call.push(bytes(event)).catch(({ name }) => out.push(name));
      continue;
    }
    const frame = call.pull();
    const scene = frame === null ? null : sceneOf(call.reception, frame);
    const exact = call.reception.frames.get(frame);
    const feedback = call.feedback();
    out.push({
      frame, shown: call.shown && [call.shown.number, call.shown.state],
      scene: scene && [sha(scene.windows), scene.motion && [...scene.motion], scene.keyframe.tag],
      exact: exact ? [sha(exact.rgb), exact.motion && [...exact.motion]] : null,
      speech: call.listen().map(({ packet }) => (packet ? hex(packet) : packet)),
      feedback: feedback && said(parsePacket(feedback)),
      stats: Object.values(call.stats), senders: call.senders,
    });
  }
  return out;
}

function parsed(text) {
  try {
    const { data, units, speech, ...fields } = parsePacket(bytes(text));
    const again = fields.kind === "FEEDBACK" ? hex(feedbackPacket(fields)) : null;
    return {
      ...fields, again, data: data ? hex(data) : null, speech: speech ? speech.map(hex) : null,
      units: units ? units.map((unit) => [unit.frames, unit.reference, hex(unit.payload)]) : null,
    };
  } catch (error) {
    if (!error.rule) throw error;
    return { error: error.name, rule: error.rule };
  }
}

const answers = {
  packets: job.packets.map(parsed),
  parts: job.parts.map(({ total, pieces }) => {
    const parts = new KeyframeParts(total);
    return pieces.map(([offset, text]) => [parts.add(offset, bytes(text)), parts.missing, hex(parts.data)]);
  }),
  calls: [],
};
for (const call of job.calls) answers.calls.push(await play(call));
answer(answers);
