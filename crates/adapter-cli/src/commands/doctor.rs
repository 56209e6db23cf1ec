//! `doctor`: what GPUs there are, which one will be used, and whether it works.

use std::io::{self, Write};
use std::time::Instant;

use adapter_engine::check::self_test::{self, Set};
use adapter_engine::formats::TensorType;
use adapter_engine::gpu::{AdapterSummary, Gpu, GpuError};
use adapter_host::figures;
use adapter_host::folders;
use pollster::block_on;

use crate::failure::Failure;
use crate::flags::Global;
use crate::load;
use crate::output;
use crate::printable::printable;

/// Runs the command.
///
/// # Errors
/// No GPU, or one that fails a check.
pub fn run(global: &Global) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "adapter-cli {} on {} {}", env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH)?;
    let found = block_on(Gpu::list());
    write_adapters(&mut out, &found)?;
    write_model(&mut out)?;
    out.flush()?;

    let start = Instant::now();
    let gpu = load::gpu(global, false)?;
    writeln!(out, "\nWill be used: {} ({}), kernels: {}", gpu.summary().name, gpu.summary().backend, gpu.tier())?;
    writeln!(out, "  opened           {:.0} ms", start.elapsed().as_secs_f64() * 1e3)?;
    writeln!(out, "  one binding      {}", figures::bytes(gpu.limits().max_storage_buffer_binding_size))?;
    out.flush()?;
    for (name, check) in CHECKS {
        let start = Instant::now();
        let said = check(&gpu, global)?;
        writeln!(out, "  {name:<16} ok, {said} ({:.0} ms)", start.elapsed().as_secs_f64() * 1e3)?;
        out.flush()?;
    }
    Ok(())
}

/// What the GPU must get right before it is trusted with a model: says what was done, or what came out wrong.
type Check = fn(&Gpu, &Global) -> Result<String, Failure>;

/// All checks, in the order in which they are run.
const CHECKS: &[(&str, Check)] =
    &[("memory", memory), ("tuning", tuning), ("kernels", kernels), ("training kernels", gradients)];

/// The format in which the kernels of a training are checked.
const OF_TRAINING: TensorType = TensorType::Q4_K;

/// Bytes that go to the GPU come back as they were.
fn memory(gpu: &Gpu, _: &Global) -> Result<String, Failure> {
    const WORDS: u32 = 1 << 18;
    let sent: Vec<u32> = (0..WORDS).map(|i| i.wrapping_mul(2_654_435_761)).collect();
    let buffer = gpu.buffer_with("doctor", &sent)?;
    let back = block_on(gpu.read::<u32>(&buffer, 0, sent.len()))?;
    match sent.iter().zip(&back).position(|(sent, back)| sent != back) {
        None if back.len() == sent.len() => Ok(format!("{} there and back", figures::bytes(u64::from(WORDS) * 4))),
        at => Err(GpuError::SelfTest {
            kernel: "copy".to_owned(),
            gpu: gpu.summary().name.clone(),
            detail: format!("{} of {WORDS} words came back, the first wrong one is {at:?}", back.len()),
        }
        .into()),
    }
}

/// The fastest of the ways to cut products up is found and kept. `--verbose` shows all.
fn tuning(gpu: &Gpu, global: &Global) -> Result<String, Failure> {
    let measured = adapter_host::tuning::renew(gpu)?;
    let mut gained = Vec::new();
    for row in &measured {
        let choices = row.slot.choices(gpu.tier());
        let micros = |at: usize| row.seconds.get(at).map_or(0.0, |seconds| seconds * 1e6);
        if global.verbose {
            let times = choices.iter().zip(&row.seconds).map(|(choice, seconds)| match seconds.is_finite() {
                true => format!("{choice:?} {:.0} us", seconds * 1e6),
                false => format!("{choice:?} does not work here"),
            });
            output::note(&format!("  {:<20} {}", row.slot.name(), times.collect::<Vec<_>>().join(", ")));
        }
        if row.chosen > 0 {
            gained.push(format!("{} {:.2} x as fast", row.slot.name(), micros(0) / micros(row.chosen).max(1e-3)));
        }
    }
    Ok(match gained.is_empty() {
        true => format!("{} kinds of products measured, the usual variants are the fastest", measured.len()),
        false => gained.join(", "),
    })
}

/// Every kernel of a chat in every format computes what it should.
fn kernels(gpu: &Gpu, global: &Global) -> Result<String, Failure> {
    let formats: Vec<TensorType> = TensorType::supported().collect();
    self_test(gpu, global, Set::Forward, &formats)
}

/// Every kernel of a training computes what it should, in one format: on a CPU the widest tile shapes take seconds to compile, each
/// format anew, and no training begins before its own formats have passed.
fn gradients(gpu: &Gpu, global: &Global) -> Result<String, Failure> {
    let said = self_test(gpu, global, Set::Training, &[OF_TRAINING])?;
    Ok(format!("{said} in {OF_TRAINING}, other formats before their first training"))
}

fn self_test(gpu: &Gpu, global: &Global, set: Set, formats: &[TensorType]) -> Result<String, Failure> {
    let checks = block_on(self_test::run(gpu, set, formats))?;
    let wrong: Vec<String> = checks
        .iter()
        .filter(|check| !check.good)
        .map(|check| format!("{}: NMSE {:.1e}", check.kernel(), check.error))
        .collect();
    if global.verbose {
        for check in &checks {
            output::note(&format!("  {:<44} NMSE {:.1e}", check.name, check.error));
        }
    }
    if wrong.is_empty() {
        let worst = checks.iter().map(|check| check.error).fold(0.0, f64::max);
        return Ok(format!("{} give the stored answers, NMSE {worst:.0e} at most", checks.len()));
    }
    let (kernel, gpu) = (wrong.join(", "), gpu.summary().name.clone());
    Err(GpuError::SelfTest { kernel, gpu, detail: format!("{} of {} are wrong", wrong.len(), checks.len()) }.into())
}

fn write_adapters(out: &mut dyn Write, found: &[AdapterSummary]) -> Result<(), Failure> {
    if found.is_empty() {
        writeln!(out, "\nNo GPU was found.")?;
        return Ok(());
    }
    for (index, gpu) in found.iter().enumerate() {
        let (smallest, largest) = gpu.subgroup_sizes;
        let subgroup = if smallest == largest { smallest.to_string() } else { format!("{smallest} to {largest}") };
        let features = if gpu.features.is_empty() { "none".to_owned() } else { gpu.features.join(" ") };
        writeln!(out, "\n{index}  {}", printable(&gpu.name))?;
        writeln!(out, "   {}, {}, driver {}", gpu.backend, gpu.device_type, printable(&gpu.driver))?;
        writeln!(
            out,
            "   one binding {}, one buffer {}",
            figures::bytes(gpu.max_binding_bytes),
            figures::bytes(gpu.max_buffer_bytes)
        )?;
        writeln!(
            out,
            "   workgroup {} and {} threads, subgroup {subgroup}",
            figures::bytes(u64::from(gpu.workgroup_bytes)),
            gpu.workgroup_threads
        )?;
        writeln!(out, "   features {features}")?;
    }
    Ok(())
}

/// Which model runs when none is named.
fn write_model(out: &mut dyn Write) -> Result<(), Failure> {
    let path = std::env::var_os("ADAPTER_MODEL").map(std::path::PathBuf::from).or_else(load::default_model);
    if let Some(path) = path {
        let state = if path.is_file() { "" } else { " (not there; `cargo xtask chat` fetches a small one)" };
        writeln!(out, "\nDefault model: {}{state}", printable(&path.display().to_string()))?;
    }
    if let Some(folder) = folders::data() {
        writeln!(out, "Prompt history: {}", printable(&folder.display().to_string()))?;
    }
    Ok(())
}
