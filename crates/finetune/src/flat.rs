//! Reading the flat tensor of what trains: one parameter of it, and its numbers.

use adapter_engine::adapter::ParameterTable;
use burn::tensor::Tensor;

use crate::TrainError;

/// One parameter of a flat tensor, in its shape, or flat with `D` = 1.
///
/// # Errors
/// A name that the table does not have, or another number of dimensions: a mistake in the method.
pub(crate) fn part<const D: usize>(
    table: &ParameterTable,
    name: &str,
    numbers: &Tensor<1>,
) -> Result<Tensor<D>, TrainError> {
    let wrong = |reason: String| TrainError::Burn { doing: "taking a parameter out of the flat vector", reason };
    let parameter = table.find(name).ok_or_else(|| wrong(format!("there is no {name:?}")))?;
    let shape = if D == 1 { vec![parameter.n_numbers()] } else { parameter.shape.clone() };
    let shape: [usize; D] = shape.try_into().map_err(|shape| wrong(format!("{name:?} has the shape {shape:?}")))?;
    Ok(numbers.clone().slice([parameter.range()]).reshape(shape))
}

/// The values of a tensor.
pub(crate) async fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, TrainError> {
    let failed = |reason: String| TrainError::Burn { doing: "reading numbers back", reason };
    let data = tensor.into_data_async().await.map_err(|error| failed(format!("{error:?}")))?;
    data.try_into_vec::<f32>().map_err(|error| failed(format!("{error:?}")))
}
