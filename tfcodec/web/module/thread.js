// A thread of the engine: see programs.js. It has a stack of its own in the memory that all share.

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
  exports.serve(thread, threads, shared, 0); // for ever
};
