// Keeps the page itself, so that it opens without a network. Models are not its business: they lie in the browser's
// private file system. The build fills in the version and the list of files.

const CACHE = "page-__VERSION__";
const FILES = [/* files */];
const KEPT = new Set(FILES.map((file) => new URL(file, self.location.href).href));

self.addEventListener("install", (event) => {
  event.waitUntil((async () => {
    const cache = await caches.open(CACHE);
    await cache.addAll(FILES.map((file) => new Request(file, { cache: "no-cache" })));
    await self.skipWaiting();
  })());
});

self.addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    for (const name of await caches.keys()) if (name !== CACHE) await caches.delete(name);
    await self.clients.claim();
  })());
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const page = request.mode === "navigate";
  // Models and the list of them are fetched as if this were not here.
  if (request.method !== "GET" || !(page || KEPT.has(request.url))) return;
  event.respondWith((async () => {
    const cache = await caches.open(CACHE);
    return (await cache.match(page ? "./" : request)) ?? fetch(request);
  })());
});
