//! The ways to compute a product: one file each, one row each of a table that launches, tests, tuner and self-test walk.

use super::cooperative::{self, Cooperative};
use super::lanes::{self, Lanes};
use super::matvec::{self, Matvec};
use super::operands::Epilogue;
use super::product::{F16_TOKENS, MANY_ROWS, MANY_TOKENS, Product, Size};
use super::registers::{self, Registers};
use super::tiled::{self, Tiled};
use crate::formats::{Layout, TensorType};
use crate::gpu::{Constants, Gpu, PlanBuilder, Tier, Tuning};
use crate::ops::matrix::Matrix;

/// A row of [`VARIANTS`].
pub struct Kind {
    /// Its shader.
    pub kernel: &'static str,
    /// The variant for a GPU of this tier that is tuned like this, if it is the one for a product of that size: the first row
    /// that has one wins.
    pub choose: fn(Tier, Tuning, Size) -> Option<Variant>,
    /// A variant of every shape that changes the text of the shader.
    pub examples: fn() -> Vec<Variant>,
}

macro_rules! variants {
    ($($(#[$doc:meta])* $name:ident: $file:ident),* $(,)?) => {
        /// Which kernel computes a product, and its tile shape.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Variant { $($(#[$doc])* $name($name)),* }

        impl Variant {
            pub(super) fn product(&self) -> &dyn Product {
                match self { $(Self::$name(product) => product),* }
            }

            /// Its shader.
            pub fn kernel_name(&self) -> &'static str {
                match self { $(Self::$name(_) => $file::KERNEL),* }
            }
        }

        /// Every way there is to compute a product. A new one is a shader, a file of this folder and a row here.
        pub const VARIANTS: &[Kind] = &[$(Kind {
            kernel: $file::KERNEL,
            choose: |tier, tuning, size| $file::choose(tier, tuning, size).map(Variant::$name),
            examples: || $file::examples().into_iter().map(Variant::$name).collect(),
        }),*];
    };
}

variants! {
    /// CPU adapters without subgroups, while a row fits workgroup memory.
    Lanes: lanes,
    /// One token.
    Matvec: matvec,
    /// Many tokens on CPU adapters.
    Registers: registers,
    /// Many tokens on a GPU's units for matrices, where the tuner found that they gain.
    Cooperative: cooperative,
    /// Many tokens on GPUs.
    Tiled: tiled,
}

impl Variant {
    /// The variant that runs on `gpu`.
    pub fn choose(gpu: &Gpu, n_tokens: u32, n_rows: u32, n_cols: u32) -> Self {
        Self::of(gpu.tier(), gpu.tuning(), n_tokens, n_rows, n_cols)
    }

    /// The variant for a GPU of this tier that is tuned like this.
    pub fn of(tier: Tier, tuning: Tuning, n_tokens: u32, n_rows: u32, n_cols: u32) -> Self {
        let size = Size { n_tokens, n_rows, n_cols, f16_products: false };
        let found = VARIANTS.iter().find_map(|kind| (kind.choose)(tier, tuning, size));
        found.unwrap_or(Self::Tiled(Tiled { tiles: tiled::Tiles::F32 })) // what every GPU has
    }

    /// The variant for many tokens whose input is rounded to f16, if a GPU of this tier that is tuned like this has one that is
    /// faster.
    pub fn f16_products(tier: Tier, tuning: Tuning) -> Option<Self> {
        let size = Size { n_tokens: F16_TOKENS, n_rows: 64, n_cols: 64, f16_products: true };
        let found = VARIANTS.iter().find_map(|kind| (kind.choose)(tier, tuning, size));
        found.filter(|variant| variant.product().f16_input())
    }

    /// Every variant that products of `n_cols` columns get on such a GPU, each once, with the fewest tokens it is for: few rows
    /// and many, one token, some and many, and with inputs in f16.
    pub fn in_use(tier: Tier, tuning: Tuning, n_cols: u32) -> Vec<(Self, u32)> {
        let sizes = [(1, 64), (1, MANY_ROWS), (2, 64), (MANY_TOKENS, 64)];
        let exact = sizes.map(|(n_tokens, n_rows)| (Self::of(tier, tuning, n_tokens, n_rows, n_cols), n_tokens));
        let rounded = Self::f16_products(tier, tuning).map(|variant| (variant, F16_TOKENS));
        let mut all: Vec<(Self, u32)> = Vec::new();
        for (variant, n_tokens) in exact.into_iter().chain(rounded) {
            if !all.iter().any(|(known, _)| *known == variant) {
                all.push((variant, n_tokens));
            }
        }
        all
    }

    /// The variant for a launch in `plan`.
    pub(super) fn in_plan(plan: &PlanBuilder<'_>, matrix: &Matrix, n_tokens: u32) -> Self {
        f16_variant(plan, matrix, n_tokens)
            .unwrap_or_else(|| Self::choose(plan.gpu(), n_tokens, matrix.n_rows, matrix.n_cols))
    }

    /// Whether the kernel can norm its input on the way. [`Lanes`] would load every norm weight once a workgroup, which costs
    /// more there than the launch it saves.
    pub fn norms(self) -> bool {
        self.product().norms()
    }

    /// Whether its input is rounded to f16.
    pub fn f16_input(self) -> bool {
        self.product().f16_input()
    }

    /// Whether it runs only where there are subgroups.
    pub fn needs_subgroups(self) -> bool {
        self.product().subgroups()
    }

    /// Kernel and constants for a part's format; `norm`: see [`Variant::norms`].
    pub fn kernel(self, layout: &Layout, epilogue: Epilogue, norm: bool, bias: bool) -> (&'static str, Constants) {
        let product = self.product();
        let (norm, f16) = (norm && product.norms(), product.f16_input());
        // Behind the five bindings of all products, and what only some have.
        let bias_binding = if !bias { 0 } else { 5 + u32::from(norm || f16) };
        let mut constants = product.constants();
        constants.insert("FORMAT", layout.fragment.to_owned());
        constants.insert("EPILOGUE", epilogue.name().to_owned());
        constants.insert("INPUT", if f16 { "f16" } else { "f32" }.to_owned());
        constants.insert("NORM", u32::from(norm).to_string());
        constants.insert("BIAS", bias_binding.to_string());
        (self.kernel_name(), constants)
    }
}

/// [`Variant::f16_products`], if `plan` lets this product have it.
pub(super) fn f16_variant(plan: &PlanBuilder<'_>, matrix: &Matrix, n_tokens: u32) -> Option<Variant> {
    // Weights that are more exact or larger than f16 were chosen for that.
    let rounds = plan.takes_f16_products()
        && n_tokens >= F16_TOKENS
        && !matrix.parts.iter().any(|part| matches!(part.tensor_type, TensorType::F32 | TensorType::BF16));
    if rounds { Variant::f16_products(plan.gpu().tier(), plan.gpu().tuning()) } else { None }
}
