//! `generate`: one prompt, one answer.

use std::io::{self, IsTerminal, Write};

use adapter_engine::answer::{Finish, Request, stops};
use adapter_engine::text::{ChatTemplate, Message, RenderOptions, Special, TerminalSanitizer, encode_chat};
use adapter_host::surroundings;
use clap::Args;
use serde::Serialize;

use crate::answer::{Answer, answer};
use crate::failure::Failure;
use crate::flags::{AdapterFlags, Global, ModelFlags, PromptFlags, SamplingFlags};
use crate::load::{self, Ready};
use crate::output;

/// `generate`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  adapter-cli generate -p 'Name three rivers.'
  git diff | adapter-cli generate --system 'Summarize this change in one line.' --greedy
  adapter-cli generate --raw -p 'Once upon a time' -n 64 --seed 7
  adapter-cli generate -p 'Hi' -a adapter.safetensors --gate paper --json")]
pub struct Generate {
    #[command(flatten)]
    pub model: ModelFlags,
    #[command(flatten)]
    pub adapter: AdapterFlags,
    #[command(flatten)]
    pub prompt: PromptFlags,
    #[command(flatten)]
    pub sampling: SamplingFlags,
    /// What to answer [default: read from standard input]
    #[arg(long = "prompt", short = 'p', value_name = "TEXT", help_heading = "Prompt", allow_hyphen_values = true)]
    pub text: Option<String>,
    /// Feed the prompt as it is: no chat template, and control tokens written in it count
    #[arg(long, help_heading = "Prompt", conflicts_with_all = ["system", "template"])]
    pub raw: bool,
    /// One JSON object at the end instead of text as it comes
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    text: &'a str,
    tokens: u32,
    prompt_tokens: usize,
    finish_reason: Finish,
    time_to_first_token_ms: Option<f64>,
    tokens_per_second: Option<f64>,
    seed: u64,
    model: String,
    gpu: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    adapter: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strength: Option<f32>,
}

/// Runs the command.
///
/// # Errors
/// A prompt, model or adapter that cannot be used, or a GPU that fails.
pub fn run(global: &Global, flags: &Generate) -> Result<(), Failure> {
    let sampling = flags.sampling.sampling()?;
    let prompt = prompt_text(flags)?;
    let mut ready = Ready::load(global, &flags.model, &flags.adapter)?;
    let template = if flags.raw { None } else { Some(ready.template(flags.prompt.template.as_deref())?) };
    if let Some(note) = ready.template_note(flags.prompt.template.as_deref()).filter(|_| !flags.raw) {
        output::note(&note);
    }
    let ids = match &template {
        None => raw_ids(&ready, &prompt)?,
        Some(template) => chat_ids(&ready, template, flags, &prompt)?,
    };
    let stops = stops(template.as_ref(), &ready.tokenizer, &flags.sampling.stop);
    let max_tokens = flags.sampling.max_tokens;
    let request = Request { stops: &stops, max_tokens, ..Request::new(&ids, &sampling) };
    let mut out = io::stdout().lock();
    let mut sanitizer = TerminalSanitizer::new();
    let mut show = |piece: &str| {
        if !flags.json {
            out.write_all(sanitizer.push(piece).as_bytes())?;
            out.flush()?;
        }
        Ok(())
    };
    let answer = answer(&mut ready.session, &ready.tokenizer, &request, &mut show)?;
    if flags.json {
        let active = ready.session.adapter();
        let report = Report {
            text: &answer.text,
            tokens: answer.n_tokens,
            prompt_tokens: ids.len(),
            finish_reason: answer.finish,
            time_to_first_token_ms: answer.first_token.map(|time| output::rounded(time.as_secs_f64() * 1e3)),
            tokens_per_second: answer.tokens_per_second().map(output::rounded),
            seed: sampling.seed,
            model: ready.file.name(),
            gpu: &ready.model.gpu().summary().name,
            adapter: active.map(|(adapter, _)| adapter.name()),
            strength: active.map(|(_, strength)| strength),
        };
        out.write_all(&output::json_line(&report)?)?;
    } else if !answer.text.is_empty() && !answer.text.ends_with('\n') {
        writeln!(out)?;
    }
    out.flush()?;
    finish(global, &ready, &answer, ids.len())
}

fn finish(global: &Global, ready: &Ready, answer: &Answer, prompt_tokens: usize) -> Result<(), Failure> {
    if global.verbose {
        let speed = answer.tokens_per_second().map_or_else(|| "-".to_owned(), |speed| format!("{speed:.1}"));
        let first = answer.first_token.unwrap_or_default().as_secs_f64();
        output::note(&format!(
            "[{prompt_tokens} + {} tokens, {speed} tokens/s, first token {first:.2} s, load {:.2} s, {}]",
            answer.n_tokens,
            ready.load_time.as_secs_f64(),
            ready.model.gpu().summary().name,
        ));
    }
    match answer.finish {
        Finish::Stopped => Err(Failure::Interrupted),
        Finish::Context => {
            let limit = ready.session.context();
            let raise = ready.raise_context();
            output::warn(&format!("the context of {limit} tokens is full: the answer stops here{raise}"));
            Ok(())
        }
        Finish::Stop | Finish::Length => Ok(()),
    }
}

/// The prompt as it was given. One line break at the end of standard input belongs to the shell, not to the prompt.
fn prompt_text(flags: &Generate) -> Result<String, Failure> {
    let mut text = match &flags.text {
        Some(text) => text.clone(),
        None if io::stdin().is_terminal() => {
            return Err(Failure::wrong_use("no prompt is given", "give one with -p 'text' or on standard input"));
        }
        None => {
            let mut text = load::read_stdin()?;
            if text.ends_with('\n') {
                text.pop();
            }
            if text.ends_with('\r') {
                text.pop();
            }
            text
        }
    };
    if text.is_empty() {
        return Err(Failure::wrong_use("the prompt is empty", "give one with -p 'text' or on standard input"));
    }
    text.shrink_to_fit();
    Ok(text)
}

fn chat_ids(ready: &Ready, template: &ChatTemplate, flags: &Generate, prompt: &str) -> Result<Vec<u32>, Failure> {
    let system = flags.prompt.system.iter().map(|text| Message::new("system", text));
    let messages: Vec<Message> = system.chain([Message::new("user", prompt)]).collect();
    let options = RenderOptions { add_generation_prompt: true, date: surroundings::local_time() };
    Ok(encode_chat(&ready.tokenizer, template, &messages, &options)?)
}

fn raw_ids(ready: &Ready, prompt: &str) -> Result<Vec<u32>, Failure> {
    let ids = ready.tokenizer.encode(prompt, Special::Parse)?;
    let bos = ready.tokenizer.bos().filter(|bos| ready.tokenizer.add_bos() && ids.first() != Some(bos));
    Ok(bos.into_iter().chain(ids).collect())
}
