// What Python hands to a script of these tests, node SCRIPT MODULE JOB ANSWERS, and what all of them do with it.

import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, jobFile, answerFile] = process.argv.slice(2);

/** A file of the module. */
export const use = (name) => import(pathToFileURL(`${folder}/${name}.js`));

export const job = JSON.parse(readFileSync(jobFile, "utf8"));

export const bytes = (text) => Uint8Array.from(Buffer.from(text, "hex"));

export const sha = (...arrays) => {
  const hash = createHash("sha256");
  for (const a of arrays) hash.update(new Uint8Array(a.buffer, a.byteOffset, a.byteLength));
  return hash.digest("hex");
};

const { makeTables } = await use("tables");
export const tables = await makeTables(Object.fromEntries(
  Object.entries(job.tables).map(([name, path]) => [name, new Uint8Array(readFileSync(path))]),
));

export const answer = (answers) => writeFileSync(answerFile, JSON.stringify(answers));
