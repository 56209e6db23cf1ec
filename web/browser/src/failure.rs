//! Errors as JavaScript sees them: an `Error` with a `code` to match on and a `hint` that says what to do next.

use adapter_engine::Error;
use adapter_engine::adapter::AdapterError;
use adapter_engine::formats::GgufError;
use adapter_engine::gpu::GpuError;
use adapter_engine::sampler::SamplingError;
use adapter_engine::text::TextError;
use wasm_bindgen::prelude::*;

/// What went wrong, on its way to JavaScript.
#[derive(Debug)]
pub struct Failure {
    code: &'static str,
    message: String,
    hint: Option<String>,
    details: String,
}

impl Failure {
    /// A failure of this layer.
    pub fn new(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: Some(hint.into()), details: String::new() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = error.code();
        let (message, hint) = (error.to_string(), error.hint().map(str::to_owned));
        Self { code, message, hint, details: format!("{error:?}") }
    }
}

/// The engine's own errors become [`adapter_engine::Error`] first.
macro_rules! through_engine {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                adapter_engine::Error::from(error).into()
            }
        })*
    };
}
through_engine!(AdapterError, GgufError, GpuError, SamplingError, TextError);

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::new("bad-request", error.to_string(), "this is a bug of the page")
    }
}

impl From<JsValue> for Failure {
    fn from(error: JsValue) -> Self {
        let message = error.dyn_ref::<js_sys::Error>().map(|error| String::from(error.message()));
        Self::new("browser", message.unwrap_or_else(|| format!("{error:?}")), "reload the page")
    }
}

impl From<Failure> for JsValue {
    fn from(failure: Failure) -> Self {
        let error = js_sys::Error::new(&failure.message);
        error.set_name("EngineError");
        for (key, value) in
            [("code", Some(failure.code)), ("hint", failure.hint.as_deref()), ("details", Some(&failure.details))]
        {
            // Setting a property of a fresh object cannot fail.
            let _ = js_sys::Reflect::set(&error, &key.into(), &value.map_or(JsValue::UNDEFINED, JsValue::from_str));
        }
        error.into()
    }
}
