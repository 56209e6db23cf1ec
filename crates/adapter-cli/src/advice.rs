//! What to do about an error, in the words of this program: its commands and flags. The engine and the training know neither.

/// Advice by the code of an error; `None`: what the error itself says is enough.
const ADVICE: &[(&str, Option<&str>)] = &[
    // The GPU.
    (
        "no-gpu",
        Some(
            "install a Vulkan driver (Debian and Ubuntu: `apt install mesa-vulkan-drivers`, which also runs without a graphics \
             card), then see `adapter-cli doctor`",
        ),
    ),
    ("no-such-gpu", Some("`adapter-cli doctor` lists the names; a part of one is enough")),
    ("limit-too-small", Some("update the graphics driver or choose another GPU with --gpu")),
    ("gpu-open", Some("update the graphics driver or choose another GPU with --gpu")),
    ("wrong-numbers", Some("update the graphics driver or choose another GPU with --gpu")),
    ("out-of-memory", Some("use a smaller quantization or a shorter --context, or close other programs")),
    ("device-lost", None),
    ("engine-bug", Some("this is a bug of the engine: please report it with what `adapter-cli doctor` prints")),
    // Models and conversations.
    ("gguf", None),
    ("bad-model", None),
    (
        "wrong-architecture",
        Some(
            "use a GGUF of LLaMA 1/2/3, TinyLlama, SmolLM2, Mistral, Qwen2, Qwen2.5 or Qwen3; `adapter-cli inspect` says what it is",
        ),
    ),
    ("unsupported", None),
    ("text", None),
    ("template", Some("remove that text, or use a built-in template, for instance --template chatml")),
    ("sampling", Some("see the Sampling part of `adapter-cli generate --help`")),
    ("token-out-of-range", None),
    ("empty-prompt", Some("give a prompt with -p or on standard input")),
    ("context-full", Some("shorten the text, start a new chat, or raise --context")),
    ("cancelled", None),
    // Adapters.
    ("adapter", None),
    ("adapter-damaged", Some("save the adapter again; `adapter-cli inspect` shows what a file holds")),
    (
        "adapter-kind",
        Some(
            "say it with --gate: paper (one a head, tanh), linear (one a head), peft (one a layer) or scalar-tanh (one a layer, \
             tanh): --gate paper, --gate linear, --gate peft, --gate scalar-tanh",
        ),
    ),
    ("adapter-kind-mismatch", Some("leave --gate out, or give the kind the adapter was trained with")),
    ("adapter-none", Some("a model is given with --model; `adapter-cli inspect` shows what a file holds")),
    ("not-a-model", Some("give it with --adapter, and the model it was trained on with --model")),
    ("adapter-peft", Some("export as safetensors or gguf, which hold every kind, or train with --gate peft")),
    ("adapter-too-long", Some("train with a shorter --adapter-len")),
    ("pth", None),
    (
        "pth-length",
        Some(
            "say how many prompt tokens a layer it was trained with: `adapter-cli export --adapter-len N` writes a file that says so itself",
        ),
    ),
    ("pth-gates-raw", Some("leave --gate out, or give --gate linear")),
    ("write", None),
    // Training.
    ("nothing-to-learn", None),
    ("batch-too-large", Some("train with a smaller --batch-tokens")),
    ("rows", None),
    ("data-file", None),
    ("data-setting", Some("see `adapter-cli finetune --help`")),
    ("train-gpu", Some("`adapter-cli doctor` checks the GPU; --backend cpu trains without it")),
    ("train-setting", Some("see `adapter-cli finetune --help`")),
    ("diverged", Some("begin a new run with a smaller --lr or a longer --warmup")),
    ("train-file", None),
    ("metrics", None),
    ("run-exists", Some("go on with it (--resume), or take another folder (--out)")),
    ("folder-in-use", Some("name a folder with --out that is new or empty")),
    (
        "no-run",
        Some("--resume takes the --out folder of an earlier run; to train an adapter further, begin with --adapter"),
    ),
    ("run-config", Some("its settings are the flags of `adapter-cli finetune --help`, written as in `--print-config`")),
    ("no-checkpoint", Some("begin a new run in another folder (--out), with the adapter in this one (--adapter)")),
    ("checkpoint-damaged", Some("give --resume the folder of the run: it takes the newest checkpoint that is whole")),
    (
        "checkpoint-version",
        Some("resume with the version of the program that wrote it, or begin a new run with another --out"),
    ),
    (
        "other-run",
        Some(
            "resume with model, rows and settings of that run (they are in its config.toml), or begin a new run with another --out",
        ),
    ),
];

/// What to do about an error of this code, whose own hint is `own`.
pub fn advice(code: &str, own: Option<&str>) -> Option<String> {
    let ours = ADVICE.iter().find(|(known, _)| *known == code).and_then(|(_, advice)| *advice);
    ours.or(own).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_of_this_program_comes_before_the_error_s_own() {
        assert_eq!(
            advice("context-full", Some("raise it")).as_deref(),
            Some("shorten the text, start a new chat, or raise --context")
        );
        assert_eq!(advice("gguf", Some("fetch it again")).as_deref(), Some("fetch it again"));
        assert_eq!(advice("cancelled", None), None);
        let mut codes: Vec<&str> = ADVICE.iter().map(|(code, _)| *code).collect();
        codes.sort_unstable();
        assert!(codes.windows(2).all(|pair| pair[0] != pair[1]), "each code stands once");
    }
}
