// Tests as lines, and a closing line in the words of `cargo test`, which `cargo xtask test` counts.

export default async function* report(source) {
  let [passed, failed, skipped] = [0, 0, 0];
  const failures = [];
  for await (const { type, data } of source) {
    if (type === "test:stdout" || type === "test:stderr") yield data.message;
    if (type !== "test:pass" && type !== "test:fail") continue;
    // A file is a test of its own to Node; it has no place in the list unless it broke.
    const isFile = data.nesting === 0 && data.name.endsWith(".mjs");
    if (type === "test:pass") {
      if (isFile) continue;
      if (data.skip !== undefined) skipped++;
      else passed++;
      yield `test ${data.name} ... ${data.skip === undefined ? "ok" : "skipped"} (${(data.details.duration_ms / 1000).toFixed(1)} s)\n`;
    } else {
      if (data.details.error?.failureType === "subtestsFailed") continue;
      failed++;
      yield `test ${data.name} ... FAILED (${(data.details.duration_ms / 1000).toFixed(1)} s)\n`;
      failures.push([data.name, data.details.error]);
    }
  }
  for (const [name, error] of failures) {
    const cause = error?.cause ?? error;
    yield `\n---- ${name}\n${cause?.stack ?? cause}\n`;
  }
  yield `\ntest result: ${failed === 0 ? "ok" : "FAILED"}. ${passed} passed; ${failed} failed; ${skipped} ignored; 0 measured; 0 filtered out\n`;
}
