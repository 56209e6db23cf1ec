// The last step of a product (shared/product.wgsl): a bias, then EPILOGUE = store | add | swiglu (tiles alternate gate, up).
#import silu
#if BIAS
fn with_bias(row: u32, sum: f32) -> f32 {
    return sum + bias[params.bias_first + row];
}
#else
fn with_bias(row: u32, sum: f32) -> f32 {
    return sum;
}
#end
#if EPILOGUE == swiglu
// The sums of a row of gate and of the same row of up, which are a row of the result.
fn write_pair(token: u32, row: u32, gate: f32, up: f32) {
    if token >= params.n_tokens || row >= params.n_rows { return; }
    let gate_row = (row >> 3u) * 16u + (row & 7u); // its up is a tile further
    y[token * params.y_stride + params.y_offset + row] = silu(with_bias(gate_row, gate)) * with_bias(gate_row + 8u, up);
}
#else
fn write(token: u32, row: u32, sum: f32) {
    if token >= params.n_tokens || row >= params.n_rows { return; }
    let at = token * params.y_stride + params.y_offset + row;
#if EPILOGUE == add
    y[at] += with_bias(row, sum);
#else
    y[at] = with_bias(row, sum);
#end
}
#end
