// Speech of a call as it comes: Opus packets in turn to samples at 16 kHz. The decoder is the browser's.

import { OPUS } from "./chunks.js";
import { GapFiller } from "./comfort.js";
import { BitstreamError } from "./errors.js";
import { SAMPLES_PER_FRAME } from "./jitter.js";
import { LogMel } from "./mel.js";
import { SAMPLE_RATE, checkPacket, lostPacket } from "./speech.js";

const OPUS_RATE = 48000;
const STEP = OPUS_RATE / SAMPLE_RATE;
const KEPT = 2 * SAMPLE_RATE;
const FPS = 25;
const MARGIN = 120; // samples behind a frame that its columns reach into

const at = (time) => ((time % KEPT) + KEPT) % KEPT;

/**
 * Takes what `SpeechSchedule.until` gives, and calls `ready()` whenever more has been decoded. A packet that is damaged
 * counts as lost. Speech of codecs that no browser has is silence.
 */
export class Voice {
  constructor(audio, ready) {
    this.audio = audio;
    this.ready = ready;
    this.size = audio.packetSamples / STEP;
    /** What the user should be told; null if the speech can be decoded. */
    this.notice = null;
    if (audio.codec !== OPUS) {
      this.notice = `There is no sound: the speech is coded with ${{ 2: "Codec2", 3: "Lyra" }[audio.codec]}.`;
    } else if (typeof AudioDecoder === "undefined") {
      this.notice = "There is no sound: this browser has no WebCodecs, which decode speech.";
    }
    this.filler = new GapFiller();
    this.waiting = []; // packets in turn whose samples are not there yet
    this.pcm = new Float32Array(KEPT); // in a ring
    /** Time of the first sample that is not there yet, in samples. */
    this.end = null;
    this.config = null; // of the last packet
    this.pausing = false;
    this.decoder = null;
    this.count = 0;
    this.mel = new LogMel((i) => (i > this.end - KEPT && i < this.end ? this.pcm[at(i)] : 0), FPS);
  }

  /** Take packets in turn. */
  feed(items) {
    for (const { first, packet } of items) {
      const kind = this.notice || packet === null ? "lost" : packet.length ? "sent" : "pause";
      const item = { first, kind, samples: null, decoded: null, got: 0 };
      this.waiting.push(item);
      const data = this.input(packet, item);
      if (data) this.decode(data, item);
      else item.samples = new Float32Array(this.size);
    }
    this.settle();
  }

  /** What the decoder is given for a packet; null for none. */
  input(packet, item) {
    let data = null;
    if (item.kind === "sent") {
      try {
        this.config = checkPacket(packet, this.audio.packetSamples);
        data = packet;
      } catch (error) {
        if (!(error instanceof BitstreamError)) throw error;
        item.kind = "lost";
      }
    }
    const pausing = item.kind === "pause" || (item.kind === "lost" && this.pausing);
    // Of a pause the beginning is the decoder's own end of what was said.
    if (!data && this.config !== null && !(pausing && this.pausing)) {
      data = lostPacket(this.config, this.audio.packetSamples);
    }
    this.pausing = pausing;
    return data;
  }

  decode(data, item) {
    if (!this.decoder || this.decoder.state === "closed") this.open();
    this.under.push(item);
    const timestamp = Math.round((this.count++ * this.audio.packetSamples * 1e6) / OPUS_RATE);
    this.decoder.decode(new EncodedAudioChunk({ type: "key", timestamp, data }));
  }

  open() {
    const under = []; // what it has been given, and has not answered
    const decoder = new AudioDecoder({
      output: (sound) => this.take(sound, under),
      error: () => { // what it was given is lost; the next packet opens another
        for (const item of under) item.samples = new Float32Array(this.size);
        under.length = 0;
        this.settle();
      },
    });
    this.under = under;
    decoder.configure({ codec: "opus", sampleRate: OPUS_RATE, numberOfChannels: 1 });
    this.decoder = decoder;
  }

  take(sound, under) {
    const samples = new Float32Array(sound.numberOfFrames);
    sound.copyTo(samples, { planeIndex: 0, format: "f32-planar" });
    sound.close();
    for (let at = 0; at < samples.length && under.length;) {
      const [item] = under;
      item.decoded ??= new Float32Array(this.audio.packetSamples);
      const piece = samples.subarray(at, at + item.decoded.length - item.got);
      item.decoded.set(piece, item.got);
      item.got += piece.length;
      at += piece.length;
      if (item.got < item.decoded.length) continue;
      // Every third sample: what the encoder was given has nothing above 8 kHz.
      item.samples = Float32Array.from({ length: this.size }, (_, i) => item.decoded[STEP * i]);
      under.shift();
    }
    this.settle();
  }

  /** Put what is there, in turn, to its place in time. */
  settle() {
    let any = false;
    for (; this.waiting.length && this.waiting[0].samples; any = true) {
      const { first, kind, samples } = this.waiting.shift();
      if (first > (this.end ?? first)) this.pcm.fill(0); // after a long gap nobody can hear what was before it
      if (!this.notice) this.filler.next(samples, kind);
      for (let i = 0; i < samples.length; i++) this.pcm[at(first + i)] = samples[i];
      this.end = first + samples.length;
    }
    if (any) this.ready();
  }

  /** Samples [count] from a time on, which have to be there; null before they are. */
  read(first, count) {
    if (this.end === null || this.end < first + count) return null;
    return Float32Array.from({ length: count }, (_, i) => this.pcm[at(first + i)]);
  }

  /** Log-mel [148 * 80] of what a frame's lips listen to, as far as it is there; null without speech. */
  heardBy(frame) {
    if (this.notice || this.end === null) return null;
    // A window that is not whole would be another one when the rest has come.
    return this.mel.window(frame, Math.floor((this.end - MARGIN) / SAMPLES_PER_FRAME));
  }

  close() {
    if (this.decoder && this.decoder.state !== "closed") this.decoder.close();
    this.waiting = [];
  }
}
