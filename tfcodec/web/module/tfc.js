// tfcodec in a browser:
//
//     import { Tfc } from "./tfc/tfc.js";
//     const clip = await Tfc.open("talk.tfc", { model: "model/", runtime: "runtime/" });
//     clip.play(canvas);

import { Clip, Clips } from "./clip.js";
import { Receiver } from "./receiver.js";

export * from "./errors.js";
export { read } from "./container.js";
export { Clip };

export const Tfc = {
  ...Clips,
  /** The receiving end of a call: see receiver.js. */
  Receiver,
};
