import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { defineConfig, type Plugin } from "vite";

/** Ten times as large as all the rest, and not needed for a chat: kept when it was fetched, not before. */
const LATER = /adapter_teach_bg.*\.wasm$/;

/** Writes the service worker: the list of every file of the build, named by the hash of them all. */
function offline(): Plugin {
  return {
    name: "offline",
    apply: "build",
    generateBundle: {
      order: "post",
      handler(_, bundle) {
        const files = Object.keys(bundle).filter((name) => !name.endsWith(".map")).sort();
        const hash = createHash("sha256");
        for (const name of files) {
          const file = bundle[name]!;
          hash.update(name).update(file.type === "chunk" ? file.code : file.source);
        }
        const template = readFileSync(new URL("./src/service-worker.js", import.meta.url), "utf8");
        const list = ["./", ...files.filter((name) => name !== "index.html" && !LATER.test(name)), ...readdirSync(new URL("./public", import.meta.url))];
        const later = files.filter((name) => LATER.test(name));
        const source = template.replace("__VERSION__", hash.digest("hex").slice(0, 16))
          .replace("[/* files */]", JSON.stringify(list)).replace("[/* later */]", JSON.stringify(later));
        this.emitFile({ type: "asset", fileName: "service-worker.js", source });
      },
    },
  };
}

/** Writes the list of models on offer into the page. */
function offers(): Plugin {
  return {
    name: "offers",
    transformIndexHtml(html) {
      const list: unknown = JSON.parse(readFileSync(new URL("./offers.json", import.meta.url), "utf8"));
      // No text of the list can end the element.
      const text = JSON.stringify(list).replaceAll("<", "\\u003c");
      const empty = '<script type="application/json" id="offers">[]</script>';
      if (!html.includes(empty)) throw new Error("index.html has no place for the offers");
      return html.replace(empty, () => empty.replace("[]", () => text));
    },
  };
}

/** What the engine is made of, with and without training: the page remembers which kernels passed their check. */
function kernels(): string {
  const hash = createHash("sha256");
  for (const wasm of ["./engine/wasm/adapter_web_bg.wasm", "./teach/pkg/adapter_teach_bg.wasm"]) {
    hash.update(readFileSync(new URL(wasm, import.meta.url)));
  }
  return hash.digest("hex").slice(0, 16);
}

export default defineConfig({
  define: { __KERNELS__: JSON.stringify(kernels()) },
  base: "./",
  plugins: [offers(), offline()],
  worker: { format: "es" },
  build: {
    target: "es2023",
    modulePreload: { polyfill: false },
    // A file in the bundle's text would be a `data:` address, which the security policy refuses.
    assetsInlineLimit: 0,
    reportCompressedSize: false,
  },
});
