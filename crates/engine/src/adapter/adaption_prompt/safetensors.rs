//! Our safetensors: `prompts [L_a, A, C]` and `gates [L_a, H or 1]`, with what they mean in the metadata.

use std::collections::{BTreeMap, HashMap};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::file::{AdapterFile, finite};
use super::gate::{GateKind, GateShape, kind_of};
use super::peft_names::is_peft_name;
use crate::adapter::error::{AdapterError, shortened};
use crate::adapter::foreign;

/// Value of the metadata key `format`.
const FORMAT: &str = "llama-adapter";
/// The metadata key of the chat template, here and in the weights of a PEFT folder.
pub(super) const CHAT_TEMPLATE: &str = "chat_template";
/// Value of the metadata key `version`.
const VERSION: &str = "1";

impl AdapterFile {
    /// Reads `prompts [L_a,A,C]` and `gates [L_a,H or 1]`. What the gates mean stands in the metadata
    /// (`gate_shape` = `scalar` | `per_head`, `gate_activation` = `none` | `tanh`) or is given as `kind`.
    ///
    /// # Errors
    /// Missing, unknown or misshapen tensors, values that are not finite, an unknown or contradicting kind.
    pub fn from_safetensors(bytes: &[u8], kind: Option<GateKind>) -> Result<Self, AdapterError> {
        let (file, metadata) = parse(bytes)?;
        let said = |key: &str| metadata.get(key).map(String::as_str);
        if said("format") == Some(FORMAT) && said("version") != Some(VERSION) {
            return Err(AdapterError::Metadata {
                key: "version".to_owned(),
                found: format!("{:?}", said("version").unwrap_or_default()),
                wanted: format!("{VERSION:?}, which this program reads"),
            });
        }
        if let Some(name) = file.names().iter().find(|name| !["prompts", "gates"].contains(*name)) {
            if is_peft_name(name) {
                let reason = "is missing: these are the weights of a PEFT folder, which belong beside it".to_owned();
                return Err(AdapterError::Config { reason });
            }
            if let Some(error) = foreign::of_tensors(file.names()) {
                return Err(error);
            }
            return Err(AdapterError::Unknown { name: (*name).to_owned() });
        }
        let (prompts, prompt_shape) = floats(&file, "prompts")?;
        let (gates, gate_shape) = floats(&file, "gates")?;
        let [n_layers, adapter_len, n_channels] = dims(&file, "prompts", &prompt_shape, "[layers, length, channels]")?;
        let [gate_layers, gate_width] = dims(&file, "gates", &gate_shape, "[layers, heads or 1]")?;
        if gate_layers != n_layers {
            return Err(wrong_shape(&file, "gates", format!("{n_layers} layers, as prompts has")));
        }
        let in_file = kind_of(said("gate_shape"), said("gate_activation"))?;
        let kind = match (in_file, kind) {
            (Some(said), Some(asked)) if said != asked => {
                return Err(AdapterError::KindMismatch { found: said.name().to_owned(), wanted: asked.name() });
            }
            (Some(kind), _) | (None, Some(kind)) => kind,
            (None, None) => return Err(AdapterError::KindUnknown),
        };
        // One gate a layer may be one a head of a model with one head, but only the file itself can know.
        let fits = match kind.shape {
            GateShape::Scalar => gate_width == 1,
            GateShape::PerHead => gate_width > 1 || in_file.is_some(),
        };
        if !fits {
            let found = format!("{gate_width} a layer");
            return Err(AdapterError::KindMismatch { found, wanted: kind.name() });
        }
        let whole = |key: &'static str| {
            let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number > 0);
            said(key).map(|text| number(text).ok_or_else(|| not_a_number(key, text))).transpose()
        };
        Ok(Self {
            kind,
            n_layers,
            adapter_len,
            n_channels,
            prompts,
            gates,
            base_model: said("base_model").filter(|name| !name.is_empty()).map(str::to_owned),
            base_layers: whole("base_layers")?,
            base_hash: said("base_hash").map(str::to_owned),
            chat_template: said(CHAT_TEMPLATE).filter(|template| !template.is_empty()).map(str::to_owned),
        })
    }

    /// Writes what [`AdapterFile::from_safetensors`] reads, bit for bit. The same adapter always gives the same bytes.
    ///
    /// Metadata: `format` = `llama-adapter`, `version` = `1`, `gate_shape`, `gate_activation`, `n_layers`, `adapter_len`,
    /// and, where they are known, `base_model`, `base_layers`, `base_hash` ([`base_hash`](crate::adapter::base_hash)) and
    /// `chat_template`.
    ///
    /// # Errors
    /// Numbers that are not finite, or not as many as the sizes say.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, AdapterError> {
        let gate_width = self.check()?;
        let mut metadata = BTreeMap::from([
            ("format", FORMAT.to_owned()),
            ("version", VERSION.to_owned()),
            ("gate_shape", self.kind.shape.name().to_owned()),
            ("gate_activation", self.kind.activation.name().to_owned()),
            ("n_layers", self.n_layers.to_string()),
            ("adapter_len", self.adapter_len.to_string()),
        ]);
        let layers = self.base_layers.map(|layers| layers.to_string());
        let known = [
            ("base_model", &self.base_model),
            ("base_layers", &layers),
            ("base_hash", &self.base_hash),
            (CHAT_TEMPLATE, &self.chat_template),
        ];
        metadata.extend(known.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))));
        let [layers, length, channels] = [self.n_layers, self.adapter_len, self.n_channels].map(u64::from);
        Ok(write(
            &metadata,
            &[
                ("gates".to_owned(), vec![layers, u64::from(gate_width)], &self.gates),
                ("prompts".to_owned(), vec![layers, length, channels], &self.prompts),
            ],
        ))
    }
}

fn not_a_number(key: &str, text: &str) -> AdapterError {
    let found = format!("{:?}", shortened(text));
    AdapterError::Metadata { key: key.to_owned(), found, wanted: "a whole number".to_owned() }
}

/// A safetensors file of f32 tensors, which are in the order of their names.
///
/// The crate's own writer takes the metadata as a `HashMap`, in whose order it writes them: another file each time.
pub(in crate::adapter) fn write(metadata: &BTreeMap<&str, String>, tensors: &[(String, Vec<u64>, &[f32])]) -> Vec<u8> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let entries: Vec<String> =
        metadata.iter().map(|(key, value)| format!("{}:{}", quoted(key), quoted(value))).collect();
    let mut header = format!("{{\"__metadata__\":{{{}}}", entries.join(","));
    let mut end = 0;
    for (name, shape, values) in tensors {
        let start = end;
        end += values.len() as u64 * 4;
        let shape: Vec<String> = shape.iter().map(u64::to_string).collect();
        let (name, shape) = (quoted(name), shape.join(","));
        header.push_str(&format!(",{name}:{{\"dtype\":\"F32\",\"shape\":[{shape}],\"data_offsets\":[{start},{end}]}}"));
    }
    header.push('}');
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.into_bytes());
    for (_, _, values) in tensors {
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
    bytes
}

pub(in crate::adapter) type Metadata = HashMap<String, String>;

pub(in crate::adapter) fn parse(bytes: &[u8]) -> Result<(SafeTensors<'_>, Metadata), AdapterError> {
    let wrong = |error: safetensors::SafeTensorError| AdapterError::NotSafetensors { reason: error.to_string() };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(wrong)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    Ok((SafeTensors::deserialize(bytes).map_err(wrong)?, metadata))
}

fn view<'a>(file: &SafeTensors<'a>, name: &str) -> Result<TensorView<'a>, AdapterError> {
    file.tensor(name).map_err(|_| missing(file, name))
}

pub(in crate::adapter) fn missing(file: &SafeTensors<'_>, name: &str) -> AdapterError {
    let mut found = file.names().iter().take(3).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    if found.is_empty() {
        found.push_str("nothing");
    }
    AdapterError::Missing { name: name.to_owned(), found }
}

pub(in crate::adapter) fn wrong_shape(file: &SafeTensors<'_>, name: &str, wanted: String) -> AdapterError {
    let found = file.tensor(name).map_or_else(|_| "missing".into(), |v| format!("{:?} {:?}", v.dtype(), v.shape()));
    AdapterError::Shape { name: name.to_owned(), found, wanted }
}

pub(in crate::adapter) fn floats(file: &SafeTensors<'_>, name: &str) -> Result<(Vec<f32>, Vec<usize>), AdapterError> {
    let tensor = view(file, name)?;
    let data = tensor.data();
    let values: Vec<f32> = match tensor.dtype() {
        Dtype::F32 => bytemuck::pod_collect_to_vec(data),
        Dtype::F16 => data.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Dtype::BF16 => data.chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        _ => return Err(wrong_shape(file, name, "F32, F16 or BF16".to_owned())),
    };
    finite(name, &values)?;
    Ok((values, tensor.shape().to_vec()))
}

pub(in crate::adapter) fn dims<const N: usize>(
    file: &SafeTensors<'_>,
    name: &str,
    shape: &[usize],
    wanted: &str,
) -> Result<[u32; N], AdapterError> {
    let dims: Option<Vec<u32>> =
        shape.iter().map(|dim| u32::try_from(*dim).ok().filter(|dim| (1..1 << 24).contains(dim))).collect();
    dims.and_then(|dims| dims.try_into().ok()).ok_or_else(|| wrong_shape(file, name, wanted.to_owned()))
}
