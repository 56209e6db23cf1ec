//! Products with quantized weights, and the embedding, in every format.

use super::bench::{Bench, F32, QUANTIZED};
use adapter_engine::formats::{TensorInfo, TensorType};
use adapter_engine::gpu::{MatrixUnits, Tier, Tuning};
use adapter_engine::model::loader::{Loader, Order};
use adapter_engine::ops::embedding;
use adapter_engine::ops::matmul::{
    self, Columns, Cooperative, Epilogue, Input, Lanes, MANY_ROWS, MANY_TOKENS, Matvec, Norm, Operands, Registers,
    Shape, Slot, Tiled, Tiles, Variant,
};
use adapter_engine::ops::matrix::Matrix;
use adapter_reference::{dequantize, matmul as twin, narrow, swiglu, widen};
use adapter_tests::uniform;
use std::ops::ControlFlow;

/// f16 scales of ordinary size: other bit patterns would make values that few models have.
pub const ORDINARY: [f32; 2] = [0.001, 0.1];
/// f16 scales that are subnormal, minimums as well: most of those in real Q6_K files are.
pub const SUBNORMAL: [f32; 2] = [1e-7, 6e-5];

/// Random blocks whose f16 scales lie between two numbers.
pub fn random_weights(tensor_type: TensorType, n: usize, seed: u64, scales: [f32; 2]) -> Vec<u8> {
    let floats = || uniform(seed, n, -1.0, 1.0);
    match tensor_type {
        TensorType::F32 => return floats().iter().flat_map(|value| value.to_le_bytes()).collect(),
        TensorType::F16 => {
            return floats().iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect();
        }
        TensorType::BF16 => {
            return floats().iter().flat_map(|value| half::bf16::from_f32(*value).to_le_bytes()).collect();
        }
        _ => {}
    }
    let (len, bytes) = (tensor_type.block_len() as usize, tensor_type.block_bytes() as usize);
    let mut out: Vec<u8> = uniform(seed, n / len * bytes, 0.0, 256.0).iter().map(|value| *value as u8).collect();
    for (block, scale) in
        out.chunks_exact_mut(bytes).zip(uniform(seed + 1, n / len, scales[0], scales[1]).chunks(1).cycle())
    {
        for (index, at) in tensor_type.scale_offsets().iter().enumerate() {
            let value = half::f16::from_f32(if index == 0 { scale[0] } else { -scale[0] * 0.7 });
            block[*at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
    }
    out
}

fn info(name: &str, tensor_type: TensorType, n_rows: usize, n_cols: usize, bytes: &[u8]) -> TensorInfo {
    TensorInfo {
        name: name.to_owned(),
        shape: vec![n_cols as u64, n_rows as u64],
        tensor_type,
        offset: 0,
        size_bytes: bytes.len() as u64,
    }
}

/// A matrix on the GPU and its dequantized twin `[N, C]`.
pub fn matrix(
    bench: &Bench<'_>,
    tensor_type: TensorType,
    n_rows: usize,
    n_cols: usize,
    seed: u64,
) -> (Matrix, Vec<f64>) {
    scaled_matrix(bench, tensor_type, [n_rows, n_cols], seed, ORDINARY)
}

/// [`matrix`] with scales between two numbers.
pub fn scaled_matrix(
    bench: &Bench<'_>,
    tensor_type: TensorType,
    [n_rows, n_cols]: [usize; 2],
    seed: u64,
    scales: [f32; 2],
) -> (Matrix, Vec<f64>) {
    let bytes = random_weights(tensor_type, n_rows * n_cols, seed, scales);
    let tensor = info("weights", tensor_type, n_rows, n_cols, &bytes);
    let mut go_on = |_, _| ControlFlow::Continue(());
    let matrix = Loader::new(bench.gpu, &bytes, 0, &mut go_on).matrix(&[&tensor], Order::Stacked).unwrap();
    (matrix, widen(&dequantize::dequantize(tensor_type.ggml_id(), &bytes).unwrap()))
}

fn alternating(bench: &Bench<'_>, tensor_type: TensorType, n_rows: usize, n_cols: usize) -> (Matrix, [Vec<f64>; 2]) {
    let halves = [1, 2].map(|seed| random_weights(tensor_type, n_rows * n_cols, seed, ORDINARY));
    let bytes = halves.concat();
    let mut tensors = halves.each_ref().map(|half| info("gate or up", tensor_type, n_rows, n_cols, half));
    tensors[1].offset = halves[0].len() as u64;
    let mut go_on = |_, _| ControlFlow::Continue(());
    let matrix =
        Loader::new(bench.gpu, &bytes, 0, &mut go_on).matrix(&[&tensors[0], &tensors[1]], Order::Alternating).unwrap();
    (matrix, halves.map(|half| widen(&dequantize::dequantize(tensor_type.ggml_id(), &half).unwrap())))
}

/// Enough of a block for K-quants, an odd number of blocks for the others.
fn columns(tensor_type: TensorType) -> usize {
    if tensor_type.block_len() == 256 { 512 } else { 96 }
}

fn product(
    bench: &mut Bench<'_>,
    variant: Variant,
    tensor_type: TensorType,
    n_rows: usize,
    n_cols: usize,
    n_tokens: usize,
) {
    let case = format!("{}[{variant:?},{tensor_type},N={n_rows},C={n_cols},T={n_tokens}]", variant.kernel_name());
    if !bench.wants(&case) {
        return;
    }
    let (matrix, w) = matrix(bench, tensor_type, n_rows, n_cols, 5);
    let x = uniform(9, n_tokens * n_cols, -2.0, 2.0);
    let wanted = narrow(&twin::forward(&widen(&x), &w, n_cols));
    let (x, y) = (bench.input(&x), bench.output(n_tokens * n_rows));
    let shape = Shape { n_tokens: n_tokens as u32, y_stride: n_rows as u32, y_offset: 0 };
    bench.run(|plan| {
        matmul::launch_variant(plan, variant, Operands::new(&matrix, &x, &y, shape, Epilogue::Store)).unwrap();
    });
    bench.compare(&case, &y, &wanted, QUANTIZED);
}

/// The two fused endings: a residual sum, and swiglu over alternating tiles.
fn epilogues(bench: &mut Bench<'_>, variant: Variant, tensor_type: TensorType, n_rows: usize, n_tokens: usize) {
    let n_cols = columns(tensor_type);
    let case = format!("{}[{variant:?},{tensor_type},N={n_rows},C={n_cols},T={n_tokens}", variant.kernel_name());
    let x = uniform(19, n_tokens * n_cols, -0.5, 0.5);
    let shape = Shape { n_tokens: n_tokens as u32, y_stride: n_rows as u32, y_offset: 0 };
    if bench.wants(&format!("{case},add]")) {
        let (matrix, w) = matrix(bench, tensor_type, n_rows, n_cols, 6);
        let before = uniform(20, n_tokens * n_rows, -3.0, 3.0);
        let sum = adapter_reference::residual_add::forward(&twin::forward(&widen(&x), &w, n_cols), &widen(&before));
        let (input, y) = (bench.input(&x), bench.in_place(&before));
        bench.run(|plan| {
            matmul::launch_variant(plan, variant, Operands::new(&matrix, &input, &y, shape, Epilogue::Add)).unwrap();
        });
        bench.compare(&format!("{case},add]"), &y, &narrow(&sum), QUANTIZED);
    }
    if bench.wants(&format!("{case},swiglu]")) {
        let (matrix, [gate, up]) = alternating(bench, tensor_type, n_rows, n_cols);
        let [gate, up] = [gate, up].map(|w| twin::forward(&widen(&x), &w, n_cols));
        let (input, y) = (bench.input(&x), bench.output(n_tokens * n_rows));
        bench.run(|plan| {
            matmul::launch_variant(plan, variant, Operands::new(&matrix, &input, &y, shape, Epilogue::Swiglu)).unwrap();
        });
        bench.compare(&format!("{case},swiglu]"), &y, &narrow(&swiglu::forward(&gate, &up)), QUANTIZED);
    }
}

/// A bias before each ending. In alternating tiles it lies as the tiles do: 8 of gate, 8 of up.
fn biased(bench: &mut Bench<'_>, variant: Variant, tensor_type: TensorType, n_rows: usize, n_tokens: usize) {
    let n_cols = columns(tensor_type);
    let case = format!("{}[{variant:?},{tensor_type},N={n_rows},C={n_cols},T={n_tokens}", variant.kernel_name());
    let x = uniform(19, n_tokens * n_cols, -0.5, 0.5);
    // Columns of other matrices on both sides, as keys lie between queries and values.
    let (stride, offset) = (n_rows + 11, 3);
    let shape = Shape { n_tokens: n_tokens as u32, y_stride: stride as u32, y_offset: offset as u32 };
    let inside = |y: &[f64], before: &[f32], n: usize| -> Vec<f32> {
        let mut out = before.to_vec();
        for (row, values) in out.chunks_exact_mut(stride).zip(y.chunks_exact(n)) {
            row[offset..offset + n].copy_from_slice(&narrow(values));
        }
        out
    };
    let sum = |y: Vec<f64>, bias: &[f32]| -> Vec<f64> {
        y.chunks_exact(bias.len()).flat_map(|row| row.iter().zip(bias).map(|(y, b)| y + f64::from(*b))).collect()
    };
    let bias = uniform(23, n_rows, -5.0, 5.0);
    let before = uniform(20, n_tokens * stride, -3.0, 3.0);
    for (epilogue, ending) in [(Epilogue::Store, "bias"), (Epilogue::Add, "bias,add")] {
        if !bench.wants(&format!("{case},{ending}]")) {
            continue;
        }
        let (matrix, w) = matrix(bench, tensor_type, n_rows, n_cols, 6);
        let y = sum(twin::forward(&widen(&x), &w, n_cols), &bias);
        let mut wanted = inside(&y, &before, n_rows);
        if epilogue == Epilogue::Add {
            let old: Vec<f64> = before.chunks(stride).flat_map(|row| widen(&row[offset..offset + n_rows])).collect();
            wanted = inside(&adapter_reference::residual_add::forward(&y, &old), &before, n_rows);
        }
        let (input, bias, y) = (bench.input(&x), bench.input(&bias), bench.in_place(&before));
        let operands = Operands { bias: Some(&bias), ..Operands::new(&matrix, &input, &y, shape, epilogue) };
        bench.run(|plan| matmul::launch_variant(plan, variant, operands).unwrap());
        bench.compare(&format!("{case},{ending}]"), &y, &wanted, QUANTIZED);
    }
    if n_rows.is_multiple_of(8) && bench.wants(&format!("{case},bias,swiglu]")) {
        let (matrix, [gate, up]) = alternating(bench, tensor_type, n_rows, n_cols);
        let other = uniform(24, n_rows, -5.0, 5.0);
        let [gate, up] =
            [(gate, &bias), (up, &other)].map(|(w, bias)| sum(twin::forward(&widen(&x), &w, n_cols), bias));
        let both: Vec<f32> = bias.chunks(8).zip(other.chunks(8)).flat_map(|(a, b)| [a, b].concat()).collect();
        let wanted = inside(&swiglu::forward(&gate, &up), &before, n_rows);
        let (input, bias, y) = (bench.input(&x), bench.input(&both), bench.in_place(&before));
        let operands = Operands { bias: Some(&bias), ..Operands::new(&matrix, &input, &y, shape, Epilogue::Swiglu) };
        bench.run(|plan| matmul::launch_variant(plan, variant, operands).unwrap());
        bench.compare(&format!("{case},bias,swiglu]"), &y, &wanted, QUANTIZED);
    }
}

/// Scales that are subnormal in f16: a GPU may take them for 0.
fn small_scales(bench: &mut Bench<'_>, variant: Variant, tensor_type: TensorType, n_tokens: usize) {
    let (n_rows, n_cols) = (41, columns(tensor_type));
    let case = format!("{}[{variant:?},{tensor_type},T={n_tokens},subnormal scales]", variant.kernel_name());
    if tensor_type.scale_offsets().is_empty() || !bench.wants(&case) {
        return;
    }
    let (matrix, w) = scaled_matrix(bench, tensor_type, [n_rows, n_cols], 5, SUBNORMAL);
    let x = uniform(9, n_tokens * n_cols, -2.0, 2.0);
    let wanted = narrow(&twin::forward(&widen(&x), &w, n_cols));
    let (x, y) = (bench.input(&x), bench.output(n_tokens * n_rows));
    let shape = Shape { n_tokens: n_tokens as u32, y_stride: n_rows as u32, y_offset: 0 };
    let operands = Operands::new(&matrix, &x, &y, shape, Epilogue::Store);
    bench.run(|plan| matmul::launch_variant(plan, variant, operands).unwrap());
    bench.compare(&case, &y, &wanted, QUANTIZED);
}

/// The norm in front, of a row that is not the first.
fn normed(bench: &mut Bench<'_>, variant: Variant, tensor_type: TensorType, n_rows: usize) {
    let n_cols = columns(tensor_type);
    let case = format!("matvec[{variant:?},{tensor_type},N={n_rows},C={n_cols},normed]");
    if !bench.wants(&case) {
        return;
    }
    let (matrix, w) = matrix(bench, tensor_type, n_rows, n_cols, 8);
    let (x, weight) = (uniform(21, 3 * n_cols, -10.0, 10.0), uniform(22, n_cols, -2.0, 2.0));
    let (row, _) = adapter_reference::rms_norm::forward(&widen(&x[2 * n_cols..]), &widen(&weight), 1e-5);
    let wanted = narrow(&twin::forward(&row, &w, n_cols));
    let (x, weight, y) = (bench.input(&x), bench.input(&weight), bench.output(n_rows));
    let norm = Norm { weight: &weight, eps: 1e-5, first_token: 2, scratch: &x };
    let shape = Shape { n_tokens: 1, y_stride: n_rows as u32, y_offset: 0 };
    let operands = Operands { norm: Some(norm), ..Operands::new(&matrix, &x, &y, shape, Epilogue::Store) };
    bench.run(|plan| matmul::launch_variant(plan, variant, operands).unwrap());
    bench.compare(&case, &y, &wanted, QUANTIZED);
    // The bias comes behind the norm's scale.
    let bias = uniform(23, n_rows, -5.0, 5.0);
    let wanted: Vec<f32> = wanted.iter().zip(&bias).map(|(y, bias)| y + bias).collect();
    let (bias, y) = (bench.input(&bias), bench.output(n_rows));
    bench.run(|plan| {
        matmul::launch_variant(plan, variant, Operands { bias: Some(&bias), y: &y, ..operands }).unwrap();
    });
    bench.compare(&format!("{case} with a bias"), &y, &wanted, QUANTIZED);
}

/// Row counts around the tile of 8, a thread's rows and a workgroup's.
const ROWS: [usize; 10] = [1, 7, 8, 9, 31, 33, 64, 65, 127, 257];

pub fn matvec(bench: &mut Bench<'_>) {
    let mut variants = vec![
        Variant::Matvec(Matvec { x: Input::Storage, rows: 2, slices: 8, wg: 64 }),
        Variant::Matvec(Matvec { x: Input::Storage, rows: 4, slices: 1, wg: 8 }),
    ];
    if bench.gpu.tier().broadcast {
        variants.extend([4, 8].map(|rows| Variant::Matvec(Matvec { x: Input::Broadcast, rows, slices: 1, wg: 8 })));
    }
    // The other choices of the tuning table are bit-equal to these (`tuning.rs`); here their fused endings are checked.
    for (tier, slot) in tuned(bench, &[Slot::Matvec, Slot::MatvecManyRows]) {
        for variant in choices(tier, slot, 1) {
            for n_rows in [5, 100] {
                epilogues(bench, variant, TensorType::Q4_1, n_rows, 1);
            }
            normed(bench, variant, TensorType::Q4_1, 100);
        }
    }
    for variant in variants {
        for tensor_type in TensorType::supported() {
            for n_rows in [9, 33] {
                product(bench, variant, tensor_type, n_rows, columns(tensor_type), 1);
            }
            small_scales(bench, variant, tensor_type, 1);
        }
        for n_rows in ROWS {
            product(bench, variant, TensorType::Q4_1, n_rows, 96, 1);
        }
        for tensor_type in [TensorType::Q4_1, TensorType::Q8_0] {
            for n_rows in [5, 40, 100] {
                epilogues(bench, variant, tensor_type, n_rows, 1);
                biased(bench, variant, tensor_type, n_rows, 1);
            }
        }
        for (tensor_type, n_rows) in [(TensorType::Q4_1, 9), (TensorType::Q4_1, 100), (TensorType::Q6_K, 40)] {
            normed(bench, variant, tensor_type, n_rows);
        }
        // More workgroups than one dimension of a dispatch may have: 65,535.
        let Variant::Matvec(Matvec { rows: rows @ ..=4, slices, wg, .. }) = variant else { continue }; // of 8 rows: a gigabyte
        let per_group = (rows * wg / slices) as usize;
        product(bench, variant, TensorType::Q4_0, 65_536 * per_group + 3, 32, 1);
    }
}

pub fn matmul(bench: &mut Bench<'_>) {
    let mut variants = vec![Variant::Registers(Registers { x: Input::Storage, rows: 4, tokens: 4 })];
    if bench.gpu.tier().broadcast {
        variants.push(Variant::Registers(Registers { x: Input::Broadcast, rows: 4, tokens: 8 }));
    }
    for variant in variants {
        many_tokens(bench, variant);
    }
    // The variant of training steps takes seconds to compile: the formats are covered above, here its shape is.
    if bench.gpu.tier().broadcast {
        let variant = Variant::Registers(Registers { x: Input::Broadcast, rows: 8, tokens: 16 });
        for (n_rows, n_tokens) in [(1, 1), (41, 130), (65, 16), (127, 17)] {
            product(bench, variant, TensorType::Q4_1, n_rows, 96, n_tokens);
        }
        product(bench, variant, TensorType::Q6_K, 41, 512, 5);
        epilogues(bench, variant, TensorType::Q4_1, 100, 66);
    }
    for (tier, slot) in tuned(bench, &[Slot::Matmul, Slot::MatmulManyTokens]) {
        for variant in choices(tier, slot, if slot == Slot::Matmul { 2 } else { MANY_TOKENS }) {
            epilogues(bench, variant, TensorType::Q4_1, 100, 66);
        }
    }
}

/// The tiers whose variants run on the GPU of the tests, with each of `slots`.
fn tuned(bench: &Bench<'_>, slots: &[Slot]) -> Vec<(Tier, Slot)> {
    let tiers = [(true, true), (false, false)].map(|(cpu, broadcast)| Tier { cpu, broadcast, ..Tier::default() });
    let run = tiers.into_iter().filter(|tier| !tier.broadcast || bench.gpu.tier().broadcast);
    run.flat_map(|tier| slots.iter().map(move |slot| (tier, *slot))).collect()
}

/// The choices of a slot but the usual one.
fn choices(tier: Tier, slot: Slot, n_tokens: u32) -> Vec<Variant> {
    let n_rows = if slot == Slot::MatvecManyRows { MANY_ROWS } else { 64 };
    let of = |choice| Variant::of(tier, slot.set(Tuning::default(), choice), n_tokens, n_rows, 64);
    (1..slot.choices(tier).len()).map(of).collect()
}

pub fn matmul_tiled(bench: &mut Bench<'_>) {
    many_tokens(bench, Variant::Tiled(Tiled { tiles: Tiles::F32 }));
    if bench.gpu.tier().f16 {
        many_tokens(bench, Variant::Tiled(Tiled { tiles: Tiles::F16 }));
        uneven_rows(bench, Variant::Tiled(Tiled { tiles: Tiles::F16 }));
    }
}

pub fn matmul_cooperative(bench: &mut Bench<'_>) {
    if let Some(units) = bench.gpu.tier().matrix_units {
        many_tokens(bench, Variant::Cooperative(Cooperative(units)));
        uneven_rows(bench, Variant::Cooperative(Cooperative(units)));
        // As on a GPU whose subgroups may be wider than they turn out to be: the last ones repeat others' work.
        let (narrowest, widest) = units.subgroups;
        let units = MatrixUnits { subgroups: (narrowest, widest * 4), ..units };
        epilogues(bench, Variant::Cooperative(Cooperative(units)), TensorType::Q4_1, 100, 66);
    }
}

/// Inputs that f16 cannot hold, none of them or only the largest, and a row that is all zeros.
fn uneven_rows(bench: &mut Bench<'_>, variant: Variant) {
    let (n_rows, n_cols, n_tokens) = (41, 512, 9);
    for (name, factor, outlier) in
        [("tiny", 1e-20, 1.0), ("small", 1e-6, 1.0), ("large", 1e5, 1.0), ("huge", 1e20, 1.0), ("outlier", 1.0, 3000.0)]
    {
        let case = format!("{}[{variant:?},Q4_0,N={n_rows},C={n_cols},T={n_tokens},{name}]", variant.kernel_name());
        if !bench.wants(&case) {
            continue;
        }
        let (matrix, w) = matrix(bench, TensorType::Q4_0, n_rows, n_cols, 5);
        let mut x = uniform(9, n_tokens * n_cols, -2.0 * factor, 2.0 * factor);
        x.chunks_exact_mut(n_cols).for_each(|row| row[7] *= outlier);
        x[2 * n_cols..3 * n_cols].fill(0.0);
        let wanted = narrow(&twin::forward(&widen(&x), &w, n_cols));
        let (x, y) = (bench.input(&x), bench.output(n_tokens * n_rows));
        let shape = Shape { n_tokens: n_tokens as u32, y_stride: n_rows as u32, y_offset: 0 };
        bench.run(|plan| {
            matmul::launch_variant(plan, variant, Operands::new(&matrix, &x, &y, shape, Epilogue::Store)).unwrap();
        });
        bench.compare(&case, &y, &wanted, QUANTIZED);
    }
}

/// Rows in f16 and their scales.
pub fn half_rows(bench: &mut Bench<'_>) {
    if !bench.gpu.tier().f16 {
        return;
    }
    for (n_cols, n_tokens, factor, first, of) in [
        (32, 1, 1.0, 0, 32),
        (96, 7, 1e-3, 0, 96),
        (576, 3, 1e6, 0, 576),
        (4096, 66, 1.0, 0, 4096),
        (288, 5, 1e-30, 0, 288),
        (100, 9, 1.0, 36, 144),
    ] {
        let case = format!("half_rows[C={n_cols} from {first} of {of},T={n_tokens},up to {factor}]");
        if !bench.wants(&case) {
            continue;
        }
        let mut x = uniform(17, n_tokens * of, -factor, factor);
        x[first + n_cols - 1] = 1000.0 * factor;
        let taken: Vec<f32> = x.chunks_exact(of).flat_map(|row| row[first..first + n_cols].to_vec()).collect();
        let (halves, scales) = adapter_reference::half_rows::forward(&widen(&taken), n_cols);
        let (input, mut out) = (bench.input(&x), None);
        bench.run(|plan| {
            let columns = Columns { first: first as u32, n: n_cols as u32, of: of as u32 };
            out = Some(matmul::launch_half_rows(plan, &input, n_tokens as u32, columns).unwrap());
        });
        let (x_half, scale) = out.unwrap();
        let words: Vec<u32> = pollster::block_on(bench.gpu.read(&x_half, 0, n_tokens * n_cols / 2)).unwrap();
        let found = words.iter().flat_map(|word| [*word as u16, (word >> 16) as u16]);
        let found: Vec<f32> = found.map(|bits| half::f16::from_bits(bits).to_f32()).collect();
        let found_scales: Vec<f32> = pollster::block_on(bench.gpu.read(&scale, 0, n_tokens)).unwrap();
        bench.cases += 1;
        let error = adapter_tests::nmse(&found, &narrow(&halves));
        if error > QUANTIZED || found_scales != narrow(&scales) {
            bench.failures.push(format!("{case}: NMSE {error:.1e}, scales {found_scales:?} instead of {scales:?}"));
        }
    }
}

/// Chosen as an adapter without subgroups gets it, and with few blocks a thread so that lanes past the last block exist.
pub fn matmul_lanes(bench: &mut Bench<'_>) {
    for tensor_type in TensorType::supported() {
        let n_cols = columns(tensor_type);
        for (n_rows, n_tokens) in [(33, 1), (41, 5)] {
            let variant = Variant::Lanes(Lanes::of(n_tokens as u32, n_cols as u32, 16).unwrap());
            product(bench, variant, tensor_type, n_rows, n_cols, n_tokens);
            small_scales(bench, variant, tensor_type, n_tokens);
            biased(bench, variant, tensor_type, 40, n_tokens);
        }
    }
    for (tokens, lanes, blocks) in [(1, 4, 1), (1, 8, 1), (4, 4, 1), (4, 12, 1)] {
        let variant = Variant::Lanes(Lanes { tokens, lanes, blocks, groups: 16 });
        for n_rows in ROWS {
            for n_tokens in if tokens == 1 { vec![1] } else { vec![2, 4, 67] } {
                product(bench, variant, TensorType::Q4_1, n_rows, 96, n_tokens);
            }
        }
        for (n_rows, n_tokens) in [(5, 3), (40, 9), (100, 66), (300, 1)] {
            for tensor_type in [TensorType::Q4_1, TensorType::Q8_0] {
                epilogues(bench, variant, tensor_type, n_rows, if tokens == 1 { 1 } else { n_tokens });
            }
        }
    }
    // Rows of 50 blocks: several blocks a thread, and more lanes than a vector has.
    for n_tokens in [1, 6] {
        product(
            bench,
            Variant::Lanes(Lanes::of(n_tokens, 1600, 16).unwrap()),
            TensorType::Q4_1,
            41,
            1600,
            n_tokens as usize,
        );
    }
}

fn many_tokens(bench: &mut Bench<'_>, variant: Variant) {
    for tensor_type in TensorType::supported() {
        product(bench, variant, tensor_type, 41, columns(tensor_type), 5);
        // Weights of such formats are subnormal in f16, too; no model's are.
        if !variant.f16_input() {
            small_scales(bench, variant, tensor_type, 5);
        }
    }
    for n_rows in ROWS {
        for n_tokens in [2, 4, 67] {
            product(bench, variant, TensorType::Q4_1, n_rows, 96, n_tokens);
        }
    }
    for n_tokens in [1, 3, 63, 64, 65, 130] {
        product(bench, variant, TensorType::Q4_1, 33, 64, n_tokens);
    }
    for (n_rows, n_tokens) in [(5, 3), (40, 9), (100, 66)] {
        epilogues(bench, variant, TensorType::Q4_1, n_rows, n_tokens);
        biased(bench, variant, TensorType::Q4_1, n_rows, n_tokens);
    }
}

/// Rows of the table: bit-equal to the dequantized row, in every format.
pub fn embedding(bench: &mut Bench<'_>) {
    for tensor_type in TensorType::supported() {
        for (n_vocab, ids, scales) in [
            (1, vec![0], ORDINARY),
            (29, vec![3, 28, 0, 28, 7], ORDINARY),
            (29, vec![3, 28, 0, 28, 7], SUBNORMAL),
            (64, (0..64).rev().collect(), ORDINARY),
        ] {
            let n_cols = columns(tensor_type);
            let case = format!("embedding[{tensor_type},V={n_vocab},C={n_cols},T={},scales {scales:?}]", ids.len());
            if !bench.wants(&case) {
                continue;
            }
            let (matrix, w) = scaled_matrix(bench, tensor_type, [n_vocab, n_cols], 3, scales);
            let wanted = narrow(&adapter_reference::embedding::forward(&ids, &w, n_cols));
            let (ids_buffer, y) = (bench.words(&ids), bench.output(wanted.len()));
            bench.run(|plan| embedding::launch(plan, &matrix, &ids_buffer, &y, ids.len() as u32).unwrap());
            bench.compare(&case, &y, &wanted, F32);
            let found = bench.read(&case, &y, wanted.len());
            // -0 and 0 are the same weight.
            let differs = found.iter().zip(&wanted).filter(|(a, b)| a.to_bits() != b.to_bits() && **a != **b).count();
            if differs > 0 {
                bench
                    .failures
                    .push(format!("{case}: {differs} of {} weights are not bit-equal to the twin", wanted.len()));
            }
        }
    }
}
