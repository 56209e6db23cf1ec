// Just enough of the safetensors format for tests: f32 and f64 tensors in, f32 tensors out.

/** Tensors by name, as Float32Array or Float64Array. */
export function read(bytes) {
  const n = Number(bytes.readBigUInt64LE(0));
  const { __metadata__: metadata, ...tensors } = JSON.parse(bytes.toString("utf8", 8, 8 + n));
  const values = Object.entries(tensors).map(([name, { dtype, data_offsets: [from, to], shape }]) => {
    const data = new { F32: Float32Array, F64: Float64Array }[dtype](new Uint8Array(bytes.subarray(8 + n + from, 8 + n + to)).buffer);
    return [name, { data, shape }];
  });
  return { metadata, tensors: Object.fromEntries(values) };
}

/** A file of tensors `{ name: { data, shape } }`. */
export function write(tensors, metadata) {
  let at = 0;
  const header = { __metadata__: metadata };
  for (const [name, { data, shape }] of Object.entries(tensors)) {
    header[name] = { dtype: "F32", shape, data_offsets: [at, at + data.byteLength] };
    at += data.byteLength;
  }
  let text = JSON.stringify(header);
  text += " ".repeat((8 - (text.length % 8)) % 8);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const parts = Object.values(tensors).map(({ data }) => Buffer.from(data.buffer, data.byteOffset, data.byteLength));
  return Buffer.concat([length, Buffer.from(text), ...parts]);
}
