// Keeps the page itself, so that it opens without a network. Models are not its business: they lie in the browser's
// private file system. The build fills in the version and the list of files.

const CACHE = "page-__VERSION__";
const FILES = [/* files */];
/** What is kept once it was fetched. */
const LATER = [/* later */];
const addresses = (files) => new Set(files.map((file) => new URL(file, self.location.href).href));
const KEPT = addresses(FILES);
const KEPT_LATER = addresses(LATER);

self.addEventListener("install", (event) => {
  event.waitUntil((async () => {
    const cache = await caches.open(CACHE);
    await cache.addAll(FILES.map((file) => new Request(file, { cache: "no-cache" })));
    await self.skipWaiting();
  })());
});

self.addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    const cache = await caches.open(CACHE);
    for (const name of await caches.keys()) {
      if (name === CACHE) continue;
      // Names carry hashes: one that is wanted still is the same file.
      const before = await caches.open(name);
      for (const address of KEPT_LATER) {
        const kept = await before.match(address);
        if (kept) await cache.put(address, kept);
      }
      await caches.delete(name);
    }
    await self.clients.claim();
  })());
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const page = request.mode === "navigate";
  // Models and the list of them are fetched as if this were not here.
  if (request.method !== "GET" || !(page || KEPT.has(request.url) || KEPT_LATER.has(request.url))) return;
  event.respondWith((async () => {
    const cache = await caches.open(CACHE);
    const kept = await cache.match(page ? "./" : request);
    if (kept) return kept;
    const response = await fetch(request);
    if (KEPT_LATER.has(request.url) && response.ok) event.waitUntil(cache.put(request, response.clone()));
    return response;
  })());
});
