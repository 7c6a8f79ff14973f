/** tfcodec in a browser: opens, decodes and plays .tfc streams. */

export declare class TfcodecError extends Error {
  /** Number of the broken rule of section 14 of the specification, 0 if none is named. */
  readonly rule: number;
}
export declare class BitstreamError extends TfcodecError {}
export declare class TruncatedError extends BitstreamError {}
export declare class ChecksumError extends BitstreamError {}
export declare class UnsupportedVersion extends BitstreamError {}
export declare class LimitExceeded extends BitstreamError {}
export declare class WeightsError extends TfcodecError {}
export declare class MediaError extends TfcodecError {}

/** Limits of a reader, section 13 of the specification. */
export interface Limits {
  headerBytes: number;
  keyframeBytes: number;
  tinyBytes: number;
  motionBytes: number;
  displacementBytes: number;
  speechBytes: number;
  speechPacketBytes: number;
  ancillaryBytes: number;
  frames: number;
  durationSeconds: number;
  frameRate: number;
  chunks: number;
  ancillaryChunks: number;
  experimental: boolean;
  anySpeech: boolean;
}

/** Bytes of a file by purpose, section 16; they add up to `total`. */
export interface Account {
  container: number;
  keyframe: number;
  motion: number;
  tiny: number;
  displacement: number;
  audio: number;
  total: number;
}

export interface Chunk {
  kind:
    | "HEADER" | "KEYFRAME" | "KEYFRAME_INTER" | "MOTION_TABLES" | "MOTION" | "TINY" | "DISPLACEMENT_TABLES"
    | "DISPLACEMENT" | "TINY_MOVED" | "SPEECH" | "END" | "META" | "PADDING" | "unknown";
  type: number;
  /** Place in the file, and bytes with framing. */
  offset: number;
  size: number;
  /** The chunk's own fields. */
  [field: string]: unknown;
}

export interface Stream {
  header: Chunk;
  chunks: Chunk[];
  frameCount: number;
  motionTables: Chunk | null;
  displacementTables: Chunk | null;
  /** Length of the speech at 48 kHz; null without speech. */
  audioSamples: number | null;
  bytes: Account;
}

/** Read a whole file, strictly. Throws BitstreamError or one of its kinds. */
export declare function read(source: Uint8Array | ArrayBuffer, limits?: Partial<Limits>): Stream;

export interface Info {
  frames: number;
  fps: number;
  durationSeconds: number;
  modelId: number;
  modelHash: string;
  keyframes: number;
  /** Numbers of those that are coded as a difference from the one before. */
  interKeyframes: number[];
  hasAudio: boolean;
  hasMotion: boolean;
  hasDisplacement: boolean;
  bytes: Account;
  /** What a user should be told, such as that the speech cannot be decoded; null if there is nothing. */
  notice: string | null;
}

export interface Frame {
  number: number;
  /** Seconds. */
  time: number;
  /** 256 x 256 pixels. */
  picture: ImageData;
}

export interface PlayerOptions {
  /** 0 to 1. */
  volume?: number;
  /** Speed, 0.25 to 4. */
  rate?: number;
  loop?: boolean;
}

/** Events: "time" at every picture shown, "state", "error" (a CustomEvent whose `detail` is the error). */
export declare class Player extends EventTarget {
  readonly clip: Clip;
  readonly state: "paused" | "playing" | "waiting" | "ended" | "failed";
  readonly paused: boolean;
  /** Seconds. */
  readonly duration: number;
  time: number;
  volume: number;
  rate: number;
  loop: boolean;
  /** Number of the frame on the canvas, -1 before the first. */
  readonly shown: number;
  /** Pictures drawn so far, and frames that were left out because they could not be drawn in time. */
  readonly drawn: number;
  readonly skipped: number;
  play(): void;
  pause(): void;
  /** Show the frame at the present time, without playing. */
  show(): void;
  close(): void;
}

export declare class Clip extends EventTarget {
  readonly info: Info;
  /** Decoded speech at 16 kHz; null without any. */
  readonly speech: Float32Array | null;
  /** Bytes of each part of the stream, by second. */
  readonly seconds: { keyframe: number; motion: number; tiny: number; displacement: number; audio: number }[];
  /** Load the network; `picture`, `frames` and `play` do so by themselves. */
  load(): Promise<{
    threads: number;
    backend: "webgpu" | "wasm";
    network: { model_id: number; file: string; sha256: string };
  }>;
  picture(frame: number): Promise<ImageData>;
  /** Frames one after another. */
  frames(first?: number, end?: number): AsyncGenerator<Frame>;
  /**
   * What is exact of a frame: samples [96] in 1/16 grey level, motion numbers [16] and whether there is a face, the
   * picture's displacement [12] in 1/32 pixel.
   */
  exact(frame: number): Promise<{ tiny: Int16Array; motion: Int16Array; displacement: Int16Array; keyframe: number }>;
  /** The decoded keyframe that a frame is drawn from, RGB [256 * 256 * 3]. */
  keyframe(frame: number): Promise<{ first: number; number: number; pixels: Uint8Array }>;
  /** Play on a canvas. */
  play(canvas: HTMLCanvasElement, options?: PlayerOptions): Player;
  /** A player at rest. */
  player(canvas: HTMLCanvasElement, options?: PlayerOptions): Player;
  close(): Promise<void>;
}

export interface NetworkOptions {
  /** Address of the folder that `tfcodec export onnx` wrote; "model/" by default. */
  model?: string;
  /** Address of onnxruntime-web's files; "runtime/" by default. */
  runtime?: string;
  /** Threads that WebAssembly may take, where the page is isolated from others. */
  threads?: number;
  /** How the network is computed; by default with WebGPU where there is a graphics card. */
  backend?: "webgpu" | "wasm";
}

export interface OpenOptions extends NetworkOptions {
  limits?: Partial<Limits>;
  /** Load the network at once, and not with the first picture. */
  preload?: boolean;
}

export interface ReceiverOptions extends NetworkOptions {
  /** Frames that are waited for, so that the network sees them: 0, 1 or 2. */
  lookahead?: 0 | 1 | 2;
  /** 0 to 1. */
  volume?: number;
}

export interface Shown {
  /** Number of the frame, and its time in seconds. */
  number: number;
  time: number;
  /** The frame has come; it is made up, since it is late or lost; or the one of the tick before stands. */
  state: "fresh" | "concealed" | "held";
}

export interface CallStats {
  /** Packets. */
  received: number;
  lost: number;
  duplicates: number;
  reordered: number;
  damaged: number;
  lostShare: number;
  /** Frames of the clock; ticks at which the frame before stood; frames left out to keep the delay short. */
  shown: number;
  held: number;
  skipped: number;
  /** Frames between the newest that a packet has named and the clock's. */
  delayFrames: number;
  waitingForKeyframe: boolean;
  /** Pictures that were drawn, and blocks of 40 ms of sound that were played. */
  drawn: number;
  spoken: number;
}

/**
 * The receiving end of a call. Events: "feedback" (a CustomEvent whose `detail`, a Uint8Array, is to be sent to the
 * sender; an attached channel sends it unless it is prevented), "picture" (`detail` is { number, time } of the picture
 * that is on the canvas now), "error" (`detail` is the error).
 */
export declare class Receiver extends EventTarget {
  constructor(canvas: HTMLCanvasElement, options?: ReceiverOptions);
  /** Take the sender's channels, as "datachannel" events give them; others are ignored. */
  attach(channel: RTCDataChannel): void;
  /** Take a packet that came some other way. */
  push(data: ArrayBuffer | ArrayBufferView | string): void;
  /** What the clock shows; null before the first frame. */
  readonly shown: Shown | null;
  /** Number of the frame on the canvas, which is behind the clock's where drawing is slow; -1 before the first. */
  readonly pictured: number;
  /** Null until packets can be read. */
  readonly stats: CallStats | null;
  /** What a user should be told, such as that the speech cannot be decoded; null if there is nothing. */
  readonly notice: string | null;
  /** True in the beginning: browsers let sound begin in answer to a click alone. */
  muted: boolean;
  volume: number;
  close(): void;
}

export declare const Tfc: {
  Receiver: typeof Receiver;
  /** Open a stream: an address, a Blob or bytes. Throws BitstreamError or one of its kinds, MediaError. */
  open(source: string | URL | Blob | ArrayBuffer | ArrayBufferView, options?: OpenOptions): Promise<Clip>;
};
