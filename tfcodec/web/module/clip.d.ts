// Types of clip.js: what tfc.js has, without calls.

import { Clip, Tfc } from "./tfc.js";

export { Clip };
/** Opens streams. */
export declare const Clips: Omit<typeof Tfc, "Receiver">;
