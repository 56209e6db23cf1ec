//! What the user can set.

use std::path::{Path, PathBuf};

use adapter_engine::Sampling;
use serde::{Deserialize, Serialize};

use crate::chat::new_id;
use adapter_host::worker::AdapterSource;

/// The file of the settings in the user's folder.
pub const SETTINGS: &str = "desktop.json";

/// How many settings are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Temperature alone.
    #[default]
    Simple,
    /// Temperature, top-p, the longest answer.
    Power,
    /// Everything.
    All,
}

impl Mode {
    /// All there are, with their names.
    pub const ALL: [(Self, &'static str); 3] = [(Self::Simple, "Simple"), (Self::Power, "Power"), (Self::All, "All")];
}

/// Colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Theme {
    /// As the system has it.
    #[default]
    System,
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

impl Theme {
    /// All there are, with their names.
    pub const ALL: [(Self, &'static str); 3] = [(Self::System, "System"), (Self::Light, "Light"), (Self::Dark, "Dark")];

    /// As egui has it.
    #[must_use]
    pub fn preference(self) -> eframe::egui::ThemePreference {
        match self {
            Self::System => eframe::egui::ThemePreference::System,
            Self::Light => eframe::egui::ThemePreference::Light,
            Self::Dark => eframe::egui::ThemePreference::Dark,
        }
    }
}

/// How answers are chosen: what a preset holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AnswerSettings {
    /// System prompt: instructions before the conversation.
    pub system: String,
    /// 0 always takes the likeliest token.
    pub temperature: f32,
    /// 0 keeps all.
    pub top_k: u32,
    /// 1 keeps all.
    pub top_p: f32,
    /// 0 drops none.
    pub min_p: f32,
    /// 1 is off.
    pub repeat_penalty: f32,
    /// `None`: another one for every answer.
    pub seed: Option<u64>,
    /// Tokens of an answer at most.
    pub max_tokens: u32,
    /// Texts that end an answer, a line each; `\n` in one is a line break, as in the terminal.
    pub stops: String,
}

impl Default for AnswerSettings {
    fn default() -> Self {
        let Sampling { temperature, top_k, top_p, min_p, repeat_penalty, .. } = Sampling::default();
        let (system, stops) = (String::new(), String::new());
        Self { system, temperature, top_k, top_p, min_p, repeat_penalty, seed: None, max_tokens: 1024, stops }
    }
}

impl AnswerSettings {
    /// What the engine is told; `attempt` gives another answer to the same question other random numbers.
    #[must_use]
    pub fn sampling(&self, attempt: u64) -> Sampling {
        let seed = self.seed.map_or_else(random, |seed| seed.wrapping_add(attempt));
        let Self { temperature, top_k, top_p, min_p, repeat_penalty, .. } = *self;
        Sampling { temperature, top_k, top_p, min_p, repeat_penalty, seed, ..Sampling::default() }
    }

    /// The texts that end an answer.
    #[must_use]
    pub fn stops(&self) -> Vec<String> {
        self.stops.lines().filter(|line| !line.is_empty()).map(|line| line.replace("\\n", "\n")).collect()
    }
}

/// 32 random bits.
fn random() -> u64 {
    u64::from_str_radix(&new_id()[..8], 16).unwrap_or_default()
}

/// Settings under a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preset {
    /// As it is listed.
    pub name: String,
    /// What it holds.
    pub answering: AnswerSettings,
}

/// What is remembered of the adapters of a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptAdapters {
    /// Where they were loaded from.
    pub sources: Vec<AdapterSource>,
    /// Place of the one in use.
    pub active: Option<usize>,
    /// Its strength, 0 to 2.
    pub strength: f32,
}

/// Everything, as it lies in `desktop.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Settings {
    /// How many settings are shown.
    pub mode: Mode,
    /// How answers are chosen.
    pub answering: AnswerSettings,
    /// The user's own.
    pub presets: Vec<Preset>,
    /// Positions of a conversation at most.
    pub context: u32,
    /// Colours.
    pub theme: Theme,
    /// Size of everything, 1 as usual.
    pub zoom: f32,
    /// Whether keys with Ctrl do something.
    pub shortcuts: bool,
    /// Whether the list of chats is shown.
    pub sidebar: bool,
    /// Models used before, the last one first.
    pub recent: Vec<PathBuf>,
    /// Adapters by the model's path.
    pub adapters: std::collections::BTreeMap<PathBuf, KeptAdapters>,
    /// The chat that was open.
    pub chat: Option<String>,
    /// Size of the window in points of the screen, whatever the zoom.
    pub window: Option<[f32; 2]>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            answering: AnswerSettings::default(),
            presets: Vec::new(),
            context: 4096,
            theme: Theme::default(),
            zoom: 1.0,
            shortcuts: true,
            sidebar: true,
            recent: Vec::new(),
            adapters: std::collections::BTreeMap::new(),
            chat: None,
            window: None,
        }
    }
}

/// The size the window was left with, before it is opened: `None` where nothing readable says so.
#[must_use]
pub fn window_size(folder: &Path) -> Option<[f32; 2]> {
    let bytes = std::fs::read(folder.join(SETTINGS)).ok()?;
    let size = serde_json::from_slice::<Settings>(&bytes).ok()?.window?;
    // A size that no screen has would leave a window that nobody can get hold of.
    size.iter().all(|length| (200.0..=20_000.0).contains(length)).then_some(size)
}

/// Presets that are always there.
#[must_use]
pub fn built_in_presets() -> Vec<Preset> {
    let usual = AnswerSettings::default();
    let preset = |name: &str, answering| Preset { name: name.to_owned(), answering };
    vec![
        preset("Balanced", usual.clone()),
        preset("Precise", AnswerSettings { temperature: 0.0, ..usual.clone() }),
        preset("Lively", AnswerSettings { temperature: 1.1, top_p: 0.98, ..usual }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_and_each_attempt_others() {
        let answering = AnswerSettings { seed: Some(7), ..AnswerSettings::default() };
        assert_eq!(answering.sampling(0), answering.sampling(0));
        assert_ne!(answering.sampling(0).seed, answering.sampling(1).seed);
        let free = AnswerSettings::default();
        assert_ne!(free.sampling(0).seed, free.sampling(0).seed);
        for preset in built_in_presets() {
            preset.answering.sampling(0).check().expect(&preset.name);
        }
    }

    #[test]
    fn a_window_that_no_screen_can_show_is_not_remembered() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(window_size(folder.path()), None, "no file");
        for (text, size) in [
            (r#"{"window":[900.0,600.0]}"#, Some([900.0, 600.0])),
            (r#"{"window":[0.0,600.0]}"#, None),
            (r#"{"window":[900.0,1e30]}"#, None),
            (r#"{"window":null}"#, None),
            ("{", None),
        ] {
            std::fs::write(folder.path().join(SETTINGS), text).expect("written");
            assert_eq!(window_size(folder.path()), size, "{text}");
        }
    }

    #[test]
    fn settings_of_another_version_keep_what_is_known() {
        let text = r#"{"theme":"dark","answering":{"temperature":0.5},"gone":1}"#;
        let settings: Settings = serde_json::from_str(text).expect("known fields");
        assert_eq!((settings.theme, settings.answering.temperature, settings.context), (Theme::Dark, 0.5, 4096));
    }
}
