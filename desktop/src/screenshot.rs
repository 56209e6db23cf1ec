//! A picture of the window once it has answered: what the smoke test and the README use.

use std::path::{Path, PathBuf};

use adapter_engine::answer::Finish;
use eframe::egui::{ColorImage, Context};

use crate::chat::Role;
use crate::state::State as Window;

/// Waits for an answer, then writes a PNG, and beside it (`.json`) the frame times while it came.
pub struct Screenshot {
    path: PathBuf,
    state: State,
}

enum State {
    /// No whole answer yet.
    Waiting,
    /// Frames still to be drawn, so that everything has its size.
    Settling(u32),
    Done,
}

impl Screenshot {
    /// A picture to be written to `path`.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, state: State::Waiting }
    }

    /// Looks at a frame.
    pub fn frame(&mut self, ctx: &Context, window: &Window) {
        match self.state {
            State::Waiting => {
                let answered = window.chat().messages.iter().any(|message| {
                    let finish = message.note.as_ref().and_then(|note| note.finish);
                    message.role == Role::Assistant && matches!(finish, Some(Finish::Stop | Finish::Length))
                });
                if answered && !window.is_answering() {
                    self.state = State::Settling(4);
                    ctx.request_repaint();
                }
            }
            State::Settling(0) => {
                self.state = State::Done;
                let figures = serde_json::json!({ "frame_ms": window.frame_times() }).to_string();
                let path = self.path.clone();
                ctx.request_screenshot(move |image| {
                    if let Err(problem) = write(&path, &image, &figures) {
                        eprintln!("error: cannot write the picture: {problem}: {}", path.display());
                    }
                });
            }
            State::Settling(left) => {
                self.state = State::Settling(left - 1);
                ctx.request_repaint();
            }
            State::Done => {}
        }
    }
}

fn write(path: &Path, image: &ColorImage, figures: &str) -> Result<(), String> {
    let [width, height] = image.size.map(|n| n as u32);
    let bytes: Vec<u8> = image.pixels.iter().flat_map(|pixel| pixel.to_array()).collect();
    std::fs::write(path.with_extension("json"), figures).map_err(|error| error.to_string())?;
    // The picture comes last, in one piece: whoever waits for it finds both.
    let partial = path.with_extension("partial.png");
    image::save_buffer(&partial, &bytes, width, height, image::ColorType::Rgba8).map_err(|error| error.to_string())?;
    std::fs::rename(&partial, path).map_err(|error| error.to_string())
}
