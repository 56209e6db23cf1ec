//! A panic is a bug, and ends the module. What it said is kept for the report.

use std::cell::RefCell;

use wasm_bindgen::prelude::*;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs when the module starts.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|info| {
        let said = info.to_string();
        LAST.with(|last| {
            if let Ok(mut last) = last.try_borrow_mut() {
                last.get_or_insert(said);
            }
        });
    }));
}

/// What the first panic said.
#[wasm_bindgen(js_name = lastPanic)]
#[must_use]
pub fn last_panic() -> Option<String> {
    LAST.with(|last| last.try_borrow().ok().and_then(|last| last.clone()))
}
