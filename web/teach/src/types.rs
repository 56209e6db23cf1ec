//! The plain data that crosses to JavaScript, in Rust and in TypeScript side by side.

use adapter_finetune::data::SideReport;
use adapter_finetune::recipe::Schedule;
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::*;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** How to teach. What is left out has its usual value, the same as in the terminal program. */
export interface TrainSettings {
    /** Layers that get prompts, counted from the last; all but two. */
    layers?: number;
    /** Prompt tokens a layer; 10. */
    length?: number;
    /** What a gate is: "paper" (one a head, tanh), "linear" (one a head), "peft" (one a layer), "scalar-tanh". */
    gate?: string;
    /** The highest learning rate; 0.005. */
    learningRate?: number;
    /** Times all rows are used; 5. */
    epochs?: number;
    /** Optimizer steps, instead of `epochs`. */
    steps?: number;
    /** Tokens of a batch at most; 512. */
    batchTokens?: number;
    /** Rows are cut to so many tokens; `batchTokens`. */
    maxTokens?: number;
    /** Steps in which the rate rises; a tenth. */
    warmup?: number;
    schedule?: "cosine" | "constant";
    weightDecay?: number;
    /** Longer gradients are shortened to this; 0: never. */
    maxGradNorm?: number;
    /** Share of the rows used for validation; 0.1. */
    validationShare?: number;
    /** Steps from one validation to the next; a tenth. */
    validateEvery?: number;
    /** Stop after so many validations without gain. */
    patience?: number;
    seed?: number;
    /** Learn the prompts, too. */
    trainOnPrompt?: boolean;
    /** "chatml", "llama3", "llama2", "zephyr" or "alpaca" instead of the model's own template. */
    template?: string;
}

/** Figures of the rows to learn, or of the validation rows. */
export interface SideReport { rows: number; tokens: number; trained_tokens: number; median_len: number; max_len: number; }

/** A row that is left out: where it stands, the field (empty: the whole row) and why. */
export interface RowProblem { line: number; row?: number; field: string; reason: string; }

/** What a run will take. */
export interface Plan {
    /** What the rows are: "alpaca", "messages", ... */
    format?: string;
    rows: number;
    skipped: number;
    /** Reasons for that, with their numbers. */
    reasons: [string, number][];
    /** The first of them. */
    problems: RowProblem[];
    /** What is worth knowing about rows that are used. */
    notes: string[];
    training: SideReport;
    validation: SideReport;
    layers: number;
    firstLayer: number;
    length: number;
    /** The name of the kind of gates. */
    gate: string;
    parameters: number;
    /** Of the whole model. */
    modelParameters: number;
    steps: number;
    batchTokens: number;
    rowsAStep: number;
    learningRate: number;
    warmup: number;
    /** What the paper's code would use for such batches. */
    officialRate: number;
    validateEvery: number;
    /** A sample answer is cut at so many tokens. */
    sampleTokens: number;
    /** Bytes on the GPU, and what they are for. */
    memoryBytes: number;
    memory: [string, number][];
    /** Whether Hugging Face PEFT can hold such an adapter. */
    peft: boolean;
}

/** What the model is asked before, during and after. */
export interface TrainSamples {
    /** Questions of one's own; none: of rows that are not trained on, or of the first ones where all are. */
    questions: string[];
    /** An answer is cut at so many tokens; 0: nothing is asked. */
    tokens: number;
}

/** What happens in a run. `adapter` is a safetensors file. */
export type TrainEvent =
    | { kind: "step"; step: number; epoch: number; loss: number | null; gradNorm: number | null; learningRate: number; tokens: number; targets: number; skipped?: string; gates: number[][] }
    | { kind: "sample"; step: number; question: string; answer: string; cut: boolean; last: boolean }
    | { kind: "validating"; done: number; total: number }
    | { kind: "validation"; step: number; loss: number | null; best: boolean; adapter: Uint8Array }
    | { kind: "stopped"; step: number; adapter: Uint8Array }
    | { kind: "kept"; step: number; adapter: Uint8Array };

/** Hears what happens; the run waits for its answer. After "stopped", "stop" ends the run and anything else lets it go on. */
export type TrainListener = (event: TrainEvent) => Promise<"stop" | void> | "stop" | void;

/** How a run ended: "done", "early" (validation no longer gained) or "stopped". */
export interface TrainEnd {
    reason: "done" | "early" | "stopped";
    step: number;
    /** Steps left out because a number was not finite. */
    skipped: number;
    last: Uint8Array;
    /** The adapter with the lowest validation loss, where that was measured after a step. */
    best?: Uint8Array;
    bestStep?: number;
    bestLoss?: number;
}
"#;

/// `TrainSettings`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TrainSettings {
    pub layers: Option<u32>,
    pub length: Option<u32>,
    pub gate: Option<String>,
    pub learning_rate: Option<f64>,
    pub epochs: Option<f64>,
    pub steps: Option<u64>,
    pub batch_tokens: Option<u32>,
    pub max_tokens: Option<u32>,
    pub warmup: Option<u64>,
    pub schedule: Option<Schedule>,
    pub weight_decay: Option<f32>,
    pub max_grad_norm: Option<f32>,
    pub validation_share: Option<f64>,
    pub validate_every: Option<u64>,
    pub patience: Option<u32>,
    pub seed: Option<u64>,
    pub train_on_prompt: bool,
    pub template: Option<String>,
}

/// `RowProblem`
#[derive(Serialize)]
pub struct RowProblem {
    pub line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<u64>,
    pub field: String,
    pub reason: String,
}

/// `Plan`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    pub rows: u64,
    pub skipped: u64,
    pub reasons: Vec<(&'static str, u64)>,
    pub problems: Vec<RowProblem>,
    pub notes: Vec<String>,
    pub training: SideReport,
    pub validation: SideReport,
    pub layers: u32,
    pub first_layer: u32,
    pub length: u32,
    pub gate: &'static str,
    pub parameters: u64,
    pub model_parameters: u64,
    pub steps: u64,
    pub batch_tokens: u32,
    pub rows_a_step: f64,
    pub learning_rate: f64,
    pub warmup: u64,
    pub official_rate: f64,
    pub validate_every: u64,
    pub sample_tokens: u32,
    pub memory_bytes: u64,
    pub memory: Vec<(&'static str, u64)>,
    pub peft: bool,
}

/// `TrainSamples`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct TrainSamples {
    pub questions: Vec<String>,
    pub tokens: u32,
}

/// `TrainEvent`, without the adapter's bytes.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum TrainEvent {
    Step {
        step: u64,
        epoch: f64,
        loss: f32,
        grad_norm: f32,
        learning_rate: f64,
        tokens: u32,
        targets: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        skipped: Option<&'static str>,
        gates: Vec<Vec<f32>>,
    },
    Sample {
        step: u64,
        question: String,
        answer: String,
        cut: bool,
        last: bool,
    },
    Validating {
        done: u64,
        total: u64,
    },
    Validation {
        step: u64,
        loss: f64,
        best: bool,
    },
    Stopped {
        step: u64,
    },
    Kept {
        step: u64,
    },
}

/// `TrainEnd`, without the adapters' bytes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrainEnd {
    pub reason: &'static str,
    pub step: u64,
    pub skipped: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_step: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_loss: Option<f64>,
}
