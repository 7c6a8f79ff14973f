// Errors, with the names and the rules that the Python package gives them.

/** Whatever the module refuses on purpose: the input is at fault, not the program. */
export class TfcodecError extends Error {
  constructor(message) {
    super(message);
    this.name = new.target.name;
    /** Number of the broken rule of section 14 of the specification, 0 if none is named. */
    this.rule = Number(/\[R(\d+)\]$/.exec(message)?.[1] ?? 0);
  }
}
/** The bytes are no valid stream. */
export class BitstreamError extends TfcodecError {}
/** The stream ends before the structure being read does. */
export class TruncatedError extends BitstreamError {}
/** A chunk's CRC does not match its bytes. */
export class ChecksumError extends BitstreamError {}
/** The stream asks for a newer reader, or for a critical feature that this reader does not know. */
export class UnsupportedVersion extends BitstreamError {}
/** A field asks for more than the reader's limits allow. */
export class LimitExceeded extends BitstreamError {}
/** The network that a stream names is not the one that is here. */
export class WeightsError extends TfcodecError {}
/** Something could not be fetched, or this browser cannot decode it. */
export class MediaError extends TfcodecError {}

const CLASSES = {
  TfcodecError, BitstreamError, TruncatedError, ChecksumError, UnsupportedVersion, LimitExceeded, WeightsError,
  MediaError,
};

/** Throw `kind`, with the byte offset in front and the number of the broken rule behind the message. */
export function fail(kind, rule, offset, message) {
  throw new kind(`byte ${offset}: ${message} [R${rule}]`);
}

/** An error that came out of a worker as `{ name, message }`, as it was. */
export function revive({ name, message }) {
  return new (CLASSES[name] ?? Error)(message);
}
