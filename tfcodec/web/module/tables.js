// The integer tables of sections 10.2, 22.2 and 23.2, fetched as they are published.

import { sha256 } from "./bytes.js";
import { MediaError, WeightsError } from "./errors.js";

const FILES = {
  tiny: { sha256: "db62244356a4cfc14570c79d0995fa1301283c0f8f02a971fd89155a34acd44c", magic: "TFTABLE1", samples: 96 },
  motion: { sha256: "b31b75e6d081dbf0bc84de6052dad92565b3e47de9060a32757faf93d72fa89f", magic: "TFMOTTA1", samples: 16 },
  displacement: {
    sha256: "17feef6765214ac7139962df0afd57909651bb561fc291b7732505beb0242daf", magic: "TFDSPTA1", samples: 12,
  },
  bases: { sha256: "46cf9973260bcdee59b9ed64667a66999f1e80ec88c896c86cff779b772395a6", magic: "TFMOTBA1" },
};
/** `motion_id` and `motion_hash` of the files above, and what stands for them of displacement. */
export const MOTION = { id: 1, hash: "9c3198e9" };
export const DISPLACEMENT = { id: 1, hash: FILES.displacement.sha256.slice(0, 8) };
export const TINY_ID = 1;

const layout = (n, forward) => [
  ["forward", forward, n * n], ["inverse", 2, n * n], ["temporal", 2, 1365], ["steps", 2, 64],
  ["weightOfOne", 4, 640], ["groupSplit", 2, 7 * 6], ["filledRow", 2, 63], ["filledRecent", 2, 4 * 8],
  ["filledDensity", 2, 4 * 8], ["filledStep", 2, 4 * 16], ["zeroRow", 2, 63 * n], ["zeroRecent", 2, 4 * 8 * n],
  ["zeroDensity", 2, 4 * 8 * n], ["zeroStep", 2, 4 * 16 * n], ["zeroPrevious", 1, 4 * n * n],
  ["zeroTrace", 1, 4 * n * n], ["zeroCurrent", 1, 4 * n * n], ["signPrevious", 1, 4 * n * n],
  ["signCurrent", 1, 4 * n * n], ["large", 2, 2 * 4 * n], ["largeScore", 2, 2 * 4 * 20], ["larger", 2, 12],
];

async function check(name, content) {
  const found = await sha256(content);
  if (found !== FILES[name].sha256) {
    throw new WeightsError(`${name}.bin is damaged: SHA-256 ${found}, expected ${FILES[name].sha256}`);
  }
}

/** Big-endian numbers of a width in bytes, row by row, as a typed array of their own. */
function numbers(view, offset, width, count) {
  const out = new { 1: Int8Array, 2: Int16Array, 4: Int32Array }[width](count);
  // Each loop by itself: these run before anything is compiled well.
  if (width === 1) out.set(new Int8Array(view.buffer, view.byteOffset + offset, count));
  else if (width === 2) for (let i = 0; i < count; i++) out[i] = view.getInt16(offset + 2 * i);
  else for (let i = 0; i < count; i++) out[i] = view.getInt32(offset + 4 * i);
  return out;
}

function parseTables(name, content) {
  const { samples } = FILES[name];
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  const tables = { samples };
  let at = FILES[name].magic.length;
  for (const [key, width, count] of layout(samples, name === "tiny" ? 2 : 4)) {
    tables[key] = numbers(view, at, width, count);
    at += width * count;
  }
  return tables;
}

/** Components of section 22.5 that make landmarks of numbers: [12 * 140]. */
function parseBases(content) {
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  return Float64Array.from(numbers(view, FILES.bases.magic.length + 2 * 12 * 140, 2, 12 * 140), (x) => x / 16384);
}

/** Tables out of the files' contents, by name. Throws WeightsError if one is not what it should be. */
export async function makeTables({ bases, ...layers }) {
  await Promise.all(Object.entries({ bases, ...layers }).map(([name, content]) => check(name, content)));
  const parsed = Object.entries(layers).map(([name, content]) => [name, parseTables(name, content)]);
  return { ...Object.fromEntries(parsed), synthesis: parseBases(bases) };
}

const coming = new Map(); // promises of files that the page fetches for this worker, by address

/** Say that a file will be handed in; gives what does so. With null it has to be fetched here after all. */
export function expect(url) {
  let hand;
  coming.set(url, new Promise((resolve) => (hand = resolve)));
  return hand;
}

export async function fetchBytes(url, signal) {
  const given = coming.get(url);
  coming.delete(url);
  const bytes = given && (await given);
  if (bytes) return new Uint8Array(bytes);
  let response;
  try {
    response = await fetch(url, { signal });
  } catch (error) {
    throw new MediaError(`cannot fetch ${url}: ${error.message}`);
  }
  if (!response.ok) throw new MediaError(`cannot fetch ${url}: status ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

let loading = null;

/** The tables beside this module. */
export function loadTables(base = new URL(".", import.meta.url)) {
  const fetched = async (name) => [name, await fetchBytes(new URL(`${name}.bin`, base))];
  loading ??= Promise.all(Object.keys(FILES).map(fetched)).then((found) => makeTables(Object.fromEntries(found)));
  loading.catch(() => (loading = null));
  return loading;
}
