// What takes longest begins first: the worker, and the network in it, while the page's own modules are on their way.

import { common, place, preload } from "./tfc/remote.js";

common();

async function load(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`cannot fetch ${address}: status ${response.status}`);
  return response;
}

/** What the page is to show. */
export const about = load("page.json").then(async (response) => {
  const found = await response.json();
  if (found.clip) preload(place(found), true);
  return found;
});
about.catch(() => {}); // page.js says so

/** The stream that it names, as a promise of its bytes; null without one. */
export const stream = about.then(({ clip }) => clip && load(clip).then((response) => response.arrayBuffer()));
stream.catch(() => {});
