// Starts the page.

import { app } from "./app.js";
import { byId } from "./dom.js";
import { startDrop } from "./drop.js";
import { checkWebGpu, type Remedy } from "./failures.js";
import { prepare } from "./highlight.js";
import { notify, settle } from "./notices.js";
import { startAdapters } from "./views/adapters.js";
import { startChat } from "./views/chat.js";
import { startCompare } from "./views/compare.js";
import { startModels } from "./views/models.js";
import { startSettings } from "./views/settings.js";
import { startSidebar, toggleSidebar } from "./views/sidebar.js";
import { startViews } from "./views/views.js";
import { registerServiceWorker } from "./workers.js";

function remedy(offered: Remedy): void {
  switch (offered) {
    case "reload-model": return void app.reload();
    case "choose-model": return byId("model-button").click();
    case "reload-page": return location.reload();
    case "open-settings": return byId("settings-button").click();
    case "new-chat": return app.newChat();
  }
}

/** Closes a dialog that is clicked beside, and gives each a way out. */
function startDialogs(): void {
  for (const dialog of document.querySelectorAll("dialog")) {
    const close = document.createElement("button");
    close.type = "button";
    close.className = "quiet";
    close.textContent = "Close";
    close.addEventListener("click", () => dialog.close());
    dialog.querySelector("header")?.appendChild(close);
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  }
}

function startShortcuts(): void {
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !document.querySelector("dialog[open]")) return app.stop();
    if (!app.settings.shortcuts) return;
    const typing = (event.target as Element).matches("input, textarea, select");
    const control = event.ctrlKey || event.metaKey;
    if (event.key === "/" && !typing && !control) byId("message").focus();
    else if (control && event.shiftKey && event.key.toLowerCase() === "o") byId("new-chat").click();
    else if (control && !event.shiftKey && event.key.toLowerCase() === "b") toggleSidebar();
    else if (control && event.key === ",") byId("settings-button").click();
    else return;
    event.preventDefault();
  });
}

async function start(): Promise<void> {
  app.on("failure", (failure) => notify(failure, remedy));
  app.on("change", () => {
    if (app.loaded && !app.lost) settle("device-lost", "crashed", "no-model");
  });
  startViews();
  startDialogs();
  startSidebar();
  startModels();
  startChat();
  startAdapters();
  startCompare();
  startSettings();
  startDrop();
  try {
    await app.start();
  } catch (error) {
    app.fail(error);
  }
  startShortcuts();
  // From here on every key and button does what it says.
  document.documentElement.dataset.started = "";
  await checkWebGpu().catch((error: unknown) => app.block(error));
  await registerServiceWorker();
  prepare();
}

void start();
