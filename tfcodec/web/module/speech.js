// Speech: section 9 of the specification. The Opus decoder is the browser's.

import { packetsFor } from "./chunks.js";
import { fillGaps } from "./comfort.js";
import { BitstreamError, LimitExceeded, MediaError, TruncatedError } from "./errors.js";
import { SAMPLE_RATE } from "./rates.js";

export { SAMPLE_RATE };
const OPUS_RATE = 48000;
const STEP = OPUS_RATE / SAMPLE_RATE;
const LONGEST_PACKET = 4000;

const refuse = (Kind, rule, message) => {
  throw new Kind(`speech: ${message} [R${rule}]`);
};

function frameMs(config) {
  if (config < 12) return [10, 20, 40, 60][config & 3];
  return config < 16 ? [10, 20][config & 1] : [2.5, 5, 10, 20][config & 3];
}

/** Check a packet's first bytes against the stream's packet duration in samples at 48 kHz; gives its configuration. */
export function checkPacket(packet, packetSamples) {
  if (packet.length > LONGEST_PACKET) refuse(LimitExceeded, 6, `packet of ${packet.length} bytes`);
  const config = packet[0] >> 3;
  const code = packet[0] & 3;
  if (packet[0] & 4) refuse(BitstreamError, 47, "stereo packet, only mono is allowed");
  if (code === 3 && packet.length < 2) refuse(TruncatedError, 46, "packet ends before its frame count");
  const count = code === 3 ? packet[1] & 63 : [1, 2, 2][code];
  const ms = frameMs(config) * count;
  if (!(ms > 0 && ms <= 120)) refuse(BitstreamError, 47, `packet of ${count} frames of ${frameMs(config)} ms`);
  if (ms * 48 !== packetSamples) refuse(BitstreamError, 48, `packet of ${ms} ms instead of ${packetSamples / 48}`);
  return config;
}

/**
 * A packet without data, which a decoder conceals; `config` is the last packet's. One byte where one is enough: Chromium
 * takes no others for lost ones.
 */
export function lostPacket(config, packetSamples) {
  const ms = packetSamples / 48;
  if (config < 12) {
    const at = { 20: [1, 0], 40: [2, 0], 60: [3, 0], 80: [2, 1], 120: [3, 1] }[ms];
    if (at) return Uint8Array.of((((config & ~3) | at[0]) << 3) | at[1]);
    config = (config & ~3) | 1; // frames of 20 ms, of which every duration is a multiple
  }
  return Uint8Array.of((config << 3) | 3, ms / frameMs(config));
}

/** The packets of a stream by number; "null" where none was sent. Throws BitstreamError if one is not allowed. */
export function packetsOf(stream) {
  const { audio } = stream.header;
  const packets = new Array(packetsFor(audio, stream.audioSamples)).fill(null);
  for (const chunk of stream.chunks) {
    if (chunk.kind !== "SPEECH") continue;
    chunk.packets.forEach((packet, i) => {
      if (!packet.length) return;
      checkPacket(packet, audio.packetSamples);
      packets[chunk.firstPacket + i] = packet;
    });
  }
  return packets;
}

/**
 * The speech [n] float32 at 16 kHz; sample i belongs to the time i / 16000 s. What was not sent is soft noise. Throws
 * BitstreamError, MediaError.
 */
export async function decodeSpeech(stream) {
  const { audio } = stream.header;
  const packets = packetsOf(stream);
  const size = audio.packetSamples / STEP;
  const whole = new Float32Array(packets.length * size);
  await decodePackets(packets, audio.packetSamples, whole);
  fillGaps(whole, packets.map(Boolean), size);
  const skip = Math.floor(audio.preSkip / STEP);
  return whole.slice(skip, skip + Math.floor(stream.audioSamples / STEP));
}

/**
 * What the decoder is given: { number of the packet, data }. Of a row of packets that were not sent the first one is
 * concealed, which ends what was said softly; the rest do not go through the decoder.
 */
export function decoderInput(packets, packetSamples) {
  const given = [];
  for (const [number, packet] of packets.entries()) {
    const before = packets[number - 1];
    if (packet) given.push({ number, data: packet });
    else if (before) given.push({ number, data: lostPacket(before[0] >> 3, packetSamples) });
  }
  return given;
}

/** Decode packets of `size` samples at 48 kHz to their places in `out`, at 16 kHz. */
async function decodePackets(packets, size, out) {
  if (typeof AudioDecoder === "undefined") throw new MediaError("this browser has no WebCodecs, which decode speech");
  const given = decoderInput(packets, size);
  let at = 0; // of the decoded samples at 48 kHz
  let failure = null;
  const put = (sound) => {
    const samples = new Float32Array(sound.numberOfFrames);
    sound.copyTo(samples, { planeIndex: 0, format: "f32-planar" });
    sound.close();
    // Every third sample: what the encoder was given has nothing above 8 kHz.
    for (let i = (STEP - (at % STEP)) % STEP; i < samples.length; i += STEP) {
      const packet = given[Math.floor((at + i) / size)];
      if (packet) out[(packet.number * size + ((at + i) % size)) / STEP] = samples[i];
    }
    at += samples.length;
  };
  const decoder = new AudioDecoder({ output: put, error: (error) => (failure = error) });
  try {
    decoder.configure({ codec: "opus", sampleRate: OPUS_RATE, numberOfChannels: 1 });
    for (let k = 0; k < given.length && !failure; k++) {
      const timestamp = Math.round((k * size * 1e6) / OPUS_RATE);
      decoder.decode(new EncodedAudioChunk({ type: "key", timestamp, data: given[k].data }));
      if (k % 256 === 255) await decoder.flush();
    }
    await decoder.flush();
  } catch (error) {
    failure ??= error;
  }
  if (decoder.state !== "closed") decoder.close();
  if (failure?.name === "NotSupportedError") throw new MediaError("this browser cannot decode Opus");
  if (failure || at !== given.length * size) {
    refuse(BitstreamError, 49, failure ? "not decodable Opus packets" : `${at} samples of ${given.length} packets`);
  }
}
