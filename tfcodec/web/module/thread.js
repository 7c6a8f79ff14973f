// A thread of the engine: see programs.js. It has a stack of its own in the memory that all share.

const FAILED = 2;
const ROUND = 4;

self.onmessage = async ({ data: { engine, memory, stack, thread, threads, shared } }) => {
  let exports;
  try {
    ({ exports } = await WebAssembly.instantiate(engine, { env: { memory } }));
    exports.__stack_pointer.value = stack;
  } catch (error) {
    self.postMessage(String(error));
    return;
  }
  self.postMessage("ready");
  try {
    exports.serve(thread, threads, shared, 0); // for ever
  } catch (error) {
    // The others would wait for this one. Nobody hears a message before they end: see `Shared` in engine.c.
    const words = new Int32Array(memory.buffer, shared);
    Atomics.store(words, FAILED, 1);
    Atomics.add(words, ROUND, 1);
    Atomics.notify(words, ROUND);
    throw error; // into the browser's console
  }
};
