//! `adapter-desktop`: the window. Everything it shows and does is in the library beside it.
#![cfg_attr(windows, windows_subsystem = "windows")]

use std::path::PathBuf;
use std::process::ExitCode;

use adapter_desktop::screenshot::Screenshot;
use adapter_desktop::{App, Start, settings};
use adapter_host::folders;
use eframe::egui::{Context, Ui, ViewportBuilder, Visuals, vec2};

const HELP: &str = "adapter-desktop [OPTIONS] [FILE]

Chat with LLaMA models and teach them adapters, in a window.

  FILE               load this GGUF file instead of the one used last; --model FILE is the same
  --ask TEXT         ask this as soon as there is a model
  --folder DIR       keep chats, settings and taught adapters there
  --gpu NAME         compute on the GPU whose name holds this
  --screenshot FILE  write a PNG of the window when the answer is there
  --help, --version
";

#[derive(Default)]
struct Flags {
    start: Start,
    screenshot: Option<PathBuf>,
}

/// What was asked for; the outer error is a text to print and the code to leave with.
fn flags(mut args: impl Iterator<Item = String>) -> Result<Flags, (String, u8)> {
    let mut flags = Flags::default();
    flags.start.folder = folders::data();
    while let Some(flag) = args.next() {
        let (flag, inline) = match flag.split_once('=') {
            Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
            None => (flag, None),
        };
        let mut value = || {
            let value = inline.clone().or_else(|| args.next());
            value.ok_or_else(|| (format!("{flag} needs a value; see adapter-desktop --help\n"), 2))
        };
        match flag.as_str() {
            "--model" => flags.start.model = Some(value()?.into()),
            "--ask" => flags.start.ask = Some(value()?),
            "--folder" => flags.start.folder = Some(value()?.into()),
            "--gpu" => flags.start.gpu.name = Some(value()?),
            "--screenshot" => flags.screenshot = Some(value()?.into()),
            "--help" | "-h" => return Err((HELP.to_owned(), 0)),
            "--version" => return Err((format!("adapter-desktop {}\n", env!("CARGO_PKG_VERSION")), 0)),
            file if !file.starts_with('-') => flags.start.model = Some(file.into()),
            other => return Err((format!("there is no option {other:?}; see adapter-desktop --help\n"), 2)),
        }
    }
    Ok(flags)
}

/// The window, and what is to be done when it has answered.
struct Shell {
    app: App,
    screenshot: Option<Screenshot>,
}

impl eframe::App for Shell {
    fn logic(&mut self, ctx: &Context, frame: &mut eframe::Frame) {
        self.app.logic(ctx, frame);
        if let Some(screenshot) = &mut self.screenshot {
            screenshot.frame(ctx, self.app.state());
        }
    }

    fn ui(&mut self, ui: &mut Ui, frame: &mut eframe::Frame) {
        self.app.ui(ui, frame);
    }

    fn clear_color(&self, visuals: &Visuals) -> [f32; 4] {
        self.app.clear_color(visuals)
    }

    fn on_exit(&mut self) {
        self.app.on_exit();
    }
}

fn main() -> ExitCode {
    adapter_host::surroundings::quiet_driver();
    let Flags { start, screenshot } = match flags(std::env::args().skip(1)) {
        Ok(flags) => flags,
        Err((text, 0)) => {
            #[expect(clippy::print_stdout, reason = "what --help is for")]
            {
                print!("{text}");
            }
            return ExitCode::SUCCESS;
        }
        Err((text, code)) => {
            eprint!("error: {text}");
            return ExitCode::from(code);
        }
    };
    let size = start.folder.as_deref().and_then(settings::window_size).unwrap_or([1180.0, 780.0]);
    let mut viewport = ViewportBuilder::default()
        .with_title("LLaMA-Adapter")
        .with_app_id("adapter-desktop")
        .with_inner_size(size)
        .with_min_inner_size(vec2(560.0, 420.0))
        .with_drag_and_drop(true);
    if let Ok(icon) = eframe::icon_data::from_png_bytes(include_bytes!("../assets/icon.png")) {
        viewport = viewport.with_icon(icon);
    }
    let options = eframe::NativeOptions { viewport, ..eframe::NativeOptions::default() };
    let run = eframe::run_native(
        "adapter-desktop",
        options,
        Box::new(move |creation| {
            let app = App::new(&creation.egui_ctx, start)?;
            Ok(Box::new(Shell { app, screenshot: screenshot.map(Screenshot::new) }))
        }),
    );
    match run {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let display = std::env::var("DISPLAY").ok().filter(|display| !display.is_empty());
            let (message, hint) = no_window(&error, display.as_deref());
            eprintln!("error: {message}\nhint: {hint}; `adapter-cli chat` needs no screen");
            ExitCode::FAILURE
        }
    }
}

/// Why there is no window, and what to do; `display` is the X server that was asked for.
fn no_window(error: &eframe::Error, display: Option<&str>) -> (String, String) {
    let hint = "start it on a desktop, or give it a screen that nobody sees: xvfb-run adapter-desktop";
    match (error, display) {
        (eframe::Error::Winit(_) | eframe::Error::WinitEventLoop(_), None) if cfg!(target_os = "linux") => {
            ("there is no screen: DISPLAY is not set".to_owned(), hint.to_owned())
        }
        (eframe::Error::Winit(_) | eframe::Error::WinitEventLoop(_), Some(display)) if cfg!(target_os = "linux") => {
            (format!("there is no screen: no X server lets this program in at DISPLAY={display}"), hint.to_owned())
        }
        (eframe::Error::Wgpu(error), _) => (
            format!("the window cannot be drawn: {}", in_words(&error.to_string())),
            "install a Vulkan driver (Debian and Ubuntu: apt install mesa-vulkan-drivers, which also works without a \
             graphics card)"
                .to_owned(),
        ),
        (error, _) => (
            format!("the window cannot be opened: {}", in_words(&error.to_string())),
            "close other programs and start it again".to_owned(),
        ),
    }
}

/// The text of an error without the places in source files that some libraries put into it.
fn in_words(text: &str) -> String {
    let is_place = |word: &str| word.contains(".rs:");
    let words: Vec<&str> = text.split_whitespace().collect();
    let said = words.iter().enumerate().filter(|(at, word)| {
        let before_place = **word == "at" && words.get(at + 1).is_some_and(|next| is_place(next));
        !is_place(word) && !before_place
    });
    said.map(|(_, word)| *word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::{flags, in_words};

    #[test]
    fn errors_are_told_without_places_in_source_files() {
        assert_eq!(
            in_words(
                "os error at /home/me/.cargo/registry/src/index/winit-0.30.12/src/platform_impl/linux/mod.rs:764: no display"
            ),
            "os error no display"
        );
        assert_eq!(in_words("a file at /tmp/x is missing"), "a file at /tmp/x is missing");
    }

    #[test]
    fn flags_are_read_and_wrong_ones_named() {
        let parse = |line: &str| flags(line.split(' ').map(str::to_owned));
        let Ok(found) = parse("--model a.gguf --folder=/tmp/x --ask hi") else { panic!("these flags are good") };
        assert_eq!(found.start.model.as_deref(), Some(std::path::Path::new("a.gguf")));
        assert_eq!(found.start.folder.as_deref(), Some(std::path::Path::new("/tmp/x")));
        assert_eq!(found.start.ask.as_deref(), Some("hi"));
        assert_eq!(parse("b.gguf").ok().and_then(|flags| flags.start.model), Some("b.gguf".into()));
        assert_eq!(parse("--help").err().map(|(_, code)| code), Some(0));
        assert_eq!(parse("--model").err().map(|(_, code)| code), Some(2));
        assert!(parse("--modle x").err().is_some_and(|(text, _)| text.contains("--modle")));
    }
}
