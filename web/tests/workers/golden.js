// Trains on ids of one's own in a worker, with nothing of the page around it: for comparing its numbers with PyTorch's.

import init, { Engine, Training } from "/teach/pkg/adapter_teach.js";

let model;

addEventListener("message", async ({ data: { file, ids, firstTarget, settings, start } }) => {
  try {
    if (!model) {
      await init();
      model = (await Engine.open()).load(file, () => {});
    }
    const training = Training.ofTokens(file, new Uint32Array(ids), firstTarget, settings, new Uint8Array(start));
    const losses = [];
    const end = await training.teach(model, { questions: [], tokens: 0 }, (event) => { if (event.kind === "step") losses.push(event.loss); }, () => false);
    postMessage({ losses, last: [...end.last] });
  } catch (error) {
    postMessage({ error: `${error.code ?? error.name}: ${error.message}` });
  }
});
