//! What trains: one flat tensor, and the method that says what lies where in it.

use adapter_engine::adapter::{AdapterFile, Method, ParameterTable};
use burn::tensor::{Device, Tensor, TensorData};

use crate::flat::{part, read};
use crate::{TrainError, adaption_prompt};

/// The numbers of an adapter that learns, on burn, in the order of [`Method::trained`].
#[derive(Debug, Clone)]
pub struct Trainable {
    method: Method,
    table: ParameterTable,
    numbers: Tensor<1>,
}

impl Trainable {
    /// The method's first numbers.
    pub fn new(method: Method, seed: u64, device: &Device) -> Self {
        let numbers = match &method {
            Method::AdaptionPrompt(shape) => adaption_prompt::initial(shape, seed),
        };
        Self::of(method, numbers, device)
    }

    /// The numbers of a file.
    ///
    /// # Errors
    /// They are not as many as `method` says.
    pub fn from_file(file: &AdapterFile, method: Method, device: &Device) -> Result<Self, TrainError> {
        file.check()?;
        let (found, wanted) = (file.parameters(), method.trained());
        if found != wanted {
            let sizes = |table: &ParameterTable| {
                let sizes: Vec<String> = table.iter().map(|p| format!("{} {:?}", p.name, p.shape)).collect();
                sizes.join(", ")
            };
            return Err(TrainError::Setting {
                field: "the adapter's size",
                found: sizes(&found),
                wanted: format!("{} for this model and these settings", sizes(&wanted)),
            });
        }
        Ok(Self::of(method, file.numbers(), device))
    }

    fn of(method: Method, numbers: Vec<f32>, device: &Device) -> Self {
        let shape = [numbers.len()];
        let numbers = Tensor::from_data(TensorData::new(numbers, shape), device).require_grad();
        Self { table: method.trained(), method, numbers }
    }

    /// The method and its sizes.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Names and places of the numbers.
    pub fn table(&self) -> &ParameterTable {
        &self.table
    }

    /// The numbers, tracked: gradients are theirs.
    pub fn numbers(&self) -> &Tensor<1> {
        &self.numbers
    }

    /// Other numbers in their place.
    pub(crate) fn set(&mut self, numbers: Tensor<1>) {
        self.numbers = Tensor::from_inner(numbers).require_grad();
    }

    /// What the blocks take, in the order of [`Method::applied`].
    ///
    /// # Errors
    /// None for numbers of this method.
    pub fn applied(&self) -> Result<Tensor<1>, TrainError> {
        match &self.method {
            Method::AdaptionPrompt(shape) => adaption_prompt::apply(shape, &self.numbers),
        }
    }

    /// The numbers of one parameter as they are now.
    ///
    /// # Errors
    /// A lost GPU.
    pub async fn read_part(&self, name: &str) -> Result<Vec<f32>, TrainError> {
        read(part::<1>(&self.table, name, &self.numbers.clone().inner())?).await
    }

    /// The adapter as it is now.
    ///
    /// # Errors
    /// A lost GPU.
    pub async fn to_file(&self) -> Result<AdapterFile, TrainError> {
        Ok(self.method.file(&read(self.numbers.clone().inner()).await?)?)
    }
}
