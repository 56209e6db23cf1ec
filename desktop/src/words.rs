//! What went wrong, for people at a window: a title, the engine's sentence with its figure, the next step, and what can be
//! pressed. This is the window's one table of advice, by the code of a problem.

use adapter_host::Problem;

/// What a notice offers to press.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Load the model again.
    Reload,
    /// Go to the models.
    ChooseModel,
    /// Go to the settings.
    OpenSettings,
    /// Begin a new chat.
    NewChat,
}

impl Remedy {
    /// What its button says.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Reload => "Load the model again",
            Self::ChooseModel => "Choose a model",
            Self::OpenSettings => "Open the settings",
            Self::NewChat => "New chat",
        }
    }
}

/// A problem as a notice shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// In a few words.
    pub title: &'static str,
    /// What happened, with its figure.
    pub message: String,
    /// The next step.
    pub next: String,
    /// What can be pressed.
    pub remedy: Option<Remedy>,
}

/// A problem in the window's words; nothing for what the user wanted.
#[must_use]
pub fn explain(problem: &Problem) -> Option<Explained> {
    use Remedy::{ChooseModel, NewChat, OpenSettings, Reload};
    let (title, next, remedy): (_, &str, _) = match problem.code {
        "cancelled" => return None,
        "device-lost" => (
            "The GPU was lost",
            "The driver was reset, or the computer slept. Your chat is kept: load the model again and go on.",
            Some(Reload),
        ),
        "crashed" => {
            ("The engine stopped", "This is a bug. Your chat is kept: load the model again and go on.", Some(Reload))
        }
        "out-of-memory" => (
            "The GPU's memory does not suffice",
            "Choose a smaller quantization or a shorter context in the settings, or close other programs.",
            Some(OpenSettings),
        ),
        "no-such-gpu" => ("There is no GPU of this name", "", None),
        "limit-too-small" | "gpu-open" => (
            "This GPU cannot be used",
            "Update the graphics driver, or start the program with another GPU: --gpu NAME.",
            None,
        ),
        "wrong-numbers" => (
            "This GPU computes wrong numbers",
            "A kernel's answer was compared with a stored one and is off, so every answer would be nonsense. Update the graphics \
             driver, or start the program with another GPU: --gpu NAME.",
            None,
        ),
        "no-gpu" => (
            "No GPU was found",
            "Install a Vulkan driver (Debian and Ubuntu: apt install mesa-vulkan-drivers, which also works without a \
             graphics card), then start again.",
            None,
        ),
        "network" => ("The model could not be fetched", "", None),
        "no-model" => ("There is no model to answer", "Choose one; your message is kept.", Some(ChooseModel)),
        "context-full" => (
            "The conversation does not fit the context",
            "Nothing was cut. Start a new chat, edit an earlier message to branch off, or raise the context in the settings.",
            Some(NewChat),
        ),
        "gguf" | "bad-model" => (
            "This file is not a complete model",
            "Download or convert it again, or choose another .gguf file. Nothing of it was run.",
            Some(ChooseModel),
        ),
        "wrong-architecture" => (
            "This model is of another family",
            "Use a GGUF of LLaMA 1, 2 or 3, TinyLlama, SmolLM2, Mistral, Qwen2, Qwen2.5 or Qwen3.",
            Some(ChooseModel),
        ),
        "not-a-model" => (
            "This file is an adapter, not a model",
            "Load the model it was trained on, then add this file as an adapter.",
            Some(ChooseModel),
        ),
        "unsupported" => (
            "This model needs something the engine lacks",
            "Use a plain model of the LLaMA or Qwen family, quantized as F16, Q4_0 to Q8_0 or Q2_K to Q6_K.",
            Some(ChooseModel),
        ),
        "template" => (
            "This message could not be told apart from the model's control words",
            "Write it in other words: the model's chat template rewrites messages.",
            None,
        ),
        "empty-prompt" => ("There is nothing to answer", "Write a message.", None),
        "token-out-of-range" => ("The ids belong to another model", "Load the model again.", Some(Reload)),
        "text" => (
            "This text cannot be used with this model",
            "Its vocabulary or chat template is damaged, or the text is too long for it.",
            None,
        ),
        "adapter-kind" => {
            ("The adapter does not say what its gates mean", "Add it again and choose how it was trained.", None)
        }
        "adapter-kind-mismatch" => {
            ("The adapter's gates are of another kind", "Add it again and choose the kind it was trained with.", None)
        }
        "adapter-none" => ("This adapter cannot be used", "Choose a file or folder of an adapter.", None),
        "adapter-peft" => (
            "Hugging Face PEFT cannot hold this adapter",
            "Choose gates of the kind \"one a layer\" and teach it again.",
            None,
        ),
        "adapter-too-long" => ("This adapter cannot be used", "", None),
        "adapter" | "adapter-damaged" | "pth" | "pth-length" | "pth-gates-raw" => (
            "This adapter cannot be used",
            "Use an adapter that was trained for this model: a PEFT folder, a .safetensors file of this project, or the \
             folder of a run.",
            None,
        ),
        "sampling" => ("A setting is out of its range", "Change it in the settings.", Some(OpenSettings)),
        "engine-bug" => (
            "The GPU refused a command",
            "This is a bug of the engine or its driver. Your chat is kept; load the model again and go on.",
            Some(Reload),
        ),
        "rows" | "data-file" | "data-setting" | "nothing-to-learn" => ("These rows cannot be learnt", "", None),
        "diverged" => (
            "The training diverged",
            "The adapter is as it was before. Start again with a smaller learning rate, or go on from the last checkpoint.",
            None,
        ),
        "batch-too-large" => ("The steps are too large for this GPU", "Take fewer tokens a step.", None),
        "train-setting" => {
            ("A setting of the training is out of its range", "Change it under Settings on this page.", None)
        }
        "run-exists" => ("There is a run of this name already", "Choose another name for the adapter.", None),
        "folder-in-use" => (
            "Another program is training in this folder",
            "Wait until it is done or stop it there, then go on; or choose another name.",
            None,
        ),
        "no-run" | "run-config" => ("This folder holds no training that can go on", "", None),
        "no-checkpoint" | "checkpoint-damaged" | "checkpoint-version" | "other-run" => {
            ("This training cannot go on", "Begin a new one under another name; what was taught before is kept.", None)
        }
        "train-gpu" | "train-file" | "metrics" | "write" => ("The training stopped", "", None),
        _ => ("Something went wrong", "", None),
    };
    let own = || problem.hint.clone().map(capitalized).unwrap_or_default();
    let next = if next.is_empty() { own() } else { next.to_owned() };
    Some(Explained { title, message: capitalized(problem.message.clone()), next, remedy })
}

/// A sentence that begins with a capital and ends with a stop.
fn capitalized(text: String) -> String {
    let mut letters = text.chars();
    let Some(first) = letters.next() else { return text };
    // Flags and paths stay as they are.
    let first: String = if first.is_lowercase() { first.to_uppercase().collect() } else { first.to_string() };
    let stop = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{stop}", letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_wanted_is_no_problem_and_everything_else_has_a_next_step() {
        let problem = |code| Problem { message: "it is so".to_owned(), hint: Some("do this".to_owned()), code };
        assert_eq!(explain(&problem("cancelled")), None);
        for code in ["device-lost", "out-of-memory", "gguf", "adapter", "rows", "unknown", "file"] {
            let shown = explain(&problem(code)).expect("shown");
            assert_eq!(shown.message, "It is so.", "{code}");
            assert!(shown.next.ends_with('.'), "{code}");
        }
        assert_eq!(explain(&problem("device-lost")).and_then(|shown| shown.remedy), Some(Remedy::Reload));
    }
}
