//! The plain data that crosses to JavaScript, in Rust and in TypeScript side by side.

use adapter_engine::answer::Finish;
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::*;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** What every failing call throws. */
export interface EngineError extends Error {
    /** A short name to match on: "device-lost", "gguf", "no-gpu", ... */
    readonly code: string;
    /** What to do next. */
    readonly hint?: string;
    /** For a bug report. */
    readonly details: string;
}

/** The GPU in use. */
export interface GpuInfo {
    name: string;
    tier: string;
    maxBindingBytes: number;
    maxBufferBytes: number;
    subgroups: [number, number];
    features: string[];
}

/** What the header of a model file says. */
export interface ModelInfo {
    name: string;
    /** ggml's name of the format most weights have. */
    quantization: string;
    licence?: string;
    fileBytes: number;
    parameters: number;
    layers: number;
    channels: number;
    heads: number;
    vocabulary: number;
    /** Positions the model was trained for. */
    context: number;
    /** Bytes on the GPU for weights and a conversation that fills `defaultContext` positions. */
    memoryBytes: number;
    defaultContext: number;
    /** Name of the adapter inside the file. */
    adapter?: string;
}

/** A loaded adapter. */
export interface AdapterInfo {
    name: string;
    /** "paper", "linear", "peft" or "scalar-tanh": shape and activation of the gates. */
    kind: string;
    length: number;
    firstLayer: number;
    layers: number;
    /** Strength of every head, layer by layer, activation applied. */
    gates: number[][];
    /** The chat template it was trained with, which is used while it answers: its name, or "its own". */
    template?: string;
    /** Something to tell the user: the adapter was made for other weights. */
    warning?: string;
}

/** One turn of a conversation. */
export interface ChatMessage { role: "system" | "user" | "assistant"; content: string; }

/** How tokens are chosen. */
export interface SamplingSettings {
    temperature?: number;
    topK?: number;
    topP?: number;
    minP?: number;
    repeatPenalty?: number;
    repeatLastN?: number;
    seed?: number;
}

/** What to answer. Either `messages` or `ids`. */
export interface AnswerRequest {
    messages?: ChatMessage[];
    /** The prompt as ids, instead of messages. */
    ids?: number[];
    sampling?: SamplingSettings;
    maxTokens?: number;
    /** Texts that end the answer. */
    stops?: string[];
    /** The clock on the wall, for templates that ask for the date: "2026-11-23" or "2026-11-23T08:30:00". */
    date?: string;
    /** Go on after an end token (for measuring). */
    ignoreEnd?: boolean;
}

/** Called for every event of an answer; a return value of `true` stops it. */
export type AnswerListener = (event: AnswerEvent) => boolean | void;
export type AnswerEvent =
    | { kind: "prompt"; done: number; total: number }
    | { kind: "token"; id: number; text: string };

/** How an answer ended. */
export interface AnswerEnd {
    finish: "stop" | "length" | "context" | "stopped";
    promptTokens: number;
    /** Tokens of the prompt that were still in the cache. */
    reusedTokens: number;
    tokens: number;
    context: number;
    /** What was held back until the end. */
    text: string;
}

/** Told the bytes that are done and all bytes; a return value of `true` stops the load. */
export type ProgressListener = (done: number, total: number) => boolean | void;
"#;

/// `GpuInfo`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GpuInfo {
    pub name: String,
    pub tier: String,
    pub max_binding_bytes: u64,
    pub max_buffer_bytes: u64,
    pub subgroups: (u32, u32),
    pub features: Vec<&'static str>,
}

/// `ModelInfo`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelInfo {
    pub name: String,
    pub quantization: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    pub file_bytes: u64,
    pub parameters: u64,
    pub layers: u32,
    pub channels: u32,
    pub heads: u32,
    pub vocabulary: u32,
    pub context: u32,
    pub memory_bytes: u64,
    pub default_context: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
}

/// `AdapterInfo`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AdapterInfo {
    pub name: String,
    pub kind: &'static str,
    pub length: u32,
    pub first_layer: u32,
    pub layers: u32,
    pub gates: Vec<Vec<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// `ChatMessage`
#[derive(Deserialize)]
pub struct ChatMessage {
    pub role: String,
    pub content: String,
}

/// `SamplingSettings`
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct SamplingSettings {
    pub temperature: Option<f32>,
    pub top_k: Option<u32>,
    pub top_p: Option<f32>,
    pub min_p: Option<f32>,
    pub repeat_penalty: Option<f32>,
    pub repeat_last_n: Option<u32>,
    pub seed: Option<u64>,
}

/// `AnswerRequest`
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct AnswerRequest {
    pub messages: Option<Vec<ChatMessage>>,
    pub ids: Option<Vec<u32>>,
    pub sampling: SamplingSettings,
    pub max_tokens: Option<u32>,
    pub stops: Vec<String>,
    pub date: Option<String>,
    pub ignore_end: bool,
}

/// `AnswerEvent`
#[derive(Serialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum AnswerEvent<'a> {
    Prompt { done: usize, total: usize },
    Token { id: u32, text: &'a str },
}

/// `AnswerEnd`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AnswerEnd {
    pub finish: Finish,
    pub prompt_tokens: u32,
    pub reused_tokens: u32,
    pub tokens: u32,
    pub context: u32,
    pub text: String,
}

/// Plain data as a JavaScript value.
pub fn to_js<T: Serialize>(value: &T) -> Result<JsValue, crate::failure::Failure> {
    Ok(js_sys::JSON::parse(&serde_json::to_string(value)?)?)
}

/// Plain data out of a JavaScript value; `undefined` is the default.
pub fn from_js<T: serde::de::DeserializeOwned + Default>(value: &JsValue) -> Result<T, crate::failure::Failure> {
    if value.is_undefined() || value.is_null() {
        return Ok(T::default());
    }
    Ok(serde_json::from_str(&String::from(js_sys::JSON::stringify(value)?))?)
}
