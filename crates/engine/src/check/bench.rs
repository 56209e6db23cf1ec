//! Runs one case of the self-test: a plan, what it leaves, and which kernels it launched.

use super::inputs::sampled;
use crate::Error;
use crate::gpu::{Buffer, Gpu, GpuError, PlanBuilder};

/// Behind the name of a case, the variant of a kernel; the answer is that of the name before it.
pub(super) const VARIANT: &str = ", ";

/// The variant whose input is rounded to f16.
pub(super) const F16: &str = "products in f16";

/// What a case gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// What ran, such as `matvec Q4_1`, and where there are several the variant.
    pub name: String,
    /// The kernels it launched, in order, each once.
    pub kernels: Vec<&'static str>,
    /// The numbers.
    pub values: Vec<f32>,
}

pub(super) struct Bench<'g> {
    pub(super) gpu: &'g Gpu,
    pub(super) out: Vec<Outcome>,
}

impl<'g> Bench<'g> {
    /// Runs a plan and says which kernels it launched, each once.
    pub(super) fn launch(
        &self,
        fill: impl FnOnce(&mut PlanBuilder<'g>) -> Result<(), GpuError>,
    ) -> Result<Vec<&'static str>, Error> {
        let mut plan = PlanBuilder::new(self.gpu);
        fill(&mut plan)?;
        let plan = plan.build()?;
        let mut kernels: Vec<&'static str> = Vec::new();
        for kernel in plan.kernels() {
            if !kernels.contains(&kernel) {
                kernels.push(kernel);
            }
        }
        let mut encoder = self.gpu.encoder();
        plan.encode(self.gpu, &mut encoder);
        self.gpu.submit(encoder);
        Ok(kernels)
    }

    pub(super) fn keep(&mut self, name: String, kernels: &[&'static str], values: Vec<f32>) {
        self.out.push(Outcome { name, kernels: kernels.to_vec(), values });
    }

    /// Runs a plan and keeps the first `n` numbers of `y`.
    pub(super) async fn case(
        &mut self,
        name: &str,
        y: &Buffer,
        n: usize,
        fill: impl FnOnce(&mut PlanBuilder<'g>) -> Result<(), GpuError>,
    ) -> Result<(), Error> {
        let kernels = self.launch(fill)?;
        let values = self.gpu.read(y, 0, n).await?;
        self.keep(name.to_owned(), &kernels, values);
        Ok(())
    }

    /// Runs a plan and keeps [some](sampled) of the first `n` numbers of `y`.
    pub(super) async fn sampled(
        &mut self,
        name: &str,
        y: &Buffer,
        n: usize,
        fill: impl FnOnce(&mut PlanBuilder<'g>) -> Result<(), GpuError>,
    ) -> Result<(), Error> {
        let kernels = self.launch(fill)?;
        let values: Vec<f32> = self.gpu.read(y, 0, n).await?;
        self.keep(name.to_owned(), &kernels, sampled(&values));
        Ok(())
    }
}
