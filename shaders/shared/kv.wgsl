// Four channels of a cached key or value as they are stored; as numbers they are f32 again. q8: signed bytes relative to the
// largest of the head, which stands as a float behind the head's channels: whoever reads them multiplies by it at the end.
#if KV == f16
alias Stored = vec2<u32>;
fn stored(value: vec4<f32>) -> Stored {
    let inside = clamp(value, vec4(-65504.0), vec4(65504.0)); // what a half can hold: past it WGSL promises nothing
    return vec2(pack2x16float(inside.xy), pack2x16float(inside.zw));
}
fn restored(unit: Stored) -> vec4<f32> {
    return vec4(unpack2x16float(unit.x), unpack2x16float(unit.y));
}
#else
#if KV == q8
alias Stored = u32;
fn stored(value: vec4<f32>, scale: f32) -> Stored {
    return pack4x8snorm(value / max(scale, 1e-30));
}
fn restored(unit: Stored) -> vec4<f32> {
    return unpack4x8snorm(unit);
}
#else
alias Stored = vec4<f32>;
fn stored(value: vec4<f32>) -> Stored {
    return value;
}
fn restored(unit: Stored) -> vec4<f32> {
    return unit;
}
#end
#end
