//! A compiled variant of a kernel, and what it binds.

/// What a binding of a kernel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindingKind {
    /// `var<uniform>`
    Uniform,
    /// `var<storage, read>`
    Read,
    /// `var<storage, read_write>`
    Write,
}

/// The bindings a preprocessed shader declares, in order; every kernel numbers them 0, 1, 2, …
pub fn reflect_bindings(source: &str) -> Vec<BindingKind> {
    source
        .lines()
        .filter(|line| line.trim_start().starts_with("@group(0) @binding("))
        .map(|line| {
            if line.contains("var<uniform>") {
                BindingKind::Uniform
            } else if line.contains("read_write") {
                BindingKind::Write
            } else {
                BindingKind::Read
            }
        })
        .collect()
}

/// A compiled variant.
#[derive(Debug)]
pub struct Pipeline {
    pub(super) raw: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
    pub(super) bindings: Vec<BindingKind>,
    pub(super) kernel: &'static str,
    pub(super) label: String,
}
