//! What single views remember and nobody else needs: texts half typed, what is unfolded, what was drawn.

use std::collections::HashMap;

use crate::chat::Editing;
use crate::markdown::Markdown;

/// The views' own.
#[derive(Default)]
pub(crate) struct Views {
    pub chat: ChatView,
    /// The question that is typed for a comparison.
    pub question: String,
    /// Whether all that was found in the rows is shown.
    pub report_open: bool,
    /// The path of a model that is typed.
    pub typed_path: String,
    /// The name of a preset that is typed.
    pub preset_name: String,
    pub sidebar: Sidebar,
    /// Whether the list of shortcuts is shown.
    pub shortcuts_open: bool,
}

/// Of the chat.
#[derive(Default)]
pub(crate) struct ChatView {
    pub draft: String,
    /// The message that is being written anew.
    pub editing: Option<Editing>,
    pub markdown: Markdown,
    /// Width, length of the text and height of a message when it was drawn last, by its id.
    pub heights: HashMap<String, (f32, usize, f32)>,
}

/// Of the list of chats.
#[derive(Default)]
pub(crate) struct Sidebar {
    pub search: String,
    /// The field to search in is to get the keys.
    pub focus_search: bool,
    /// Whether it lies over the view, in a window that has no room beside it.
    pub over: bool,
}
