//! How everything looks: one place for colours, sizes and names that screen readers say.

use eframe::egui::{
    self, Color32, Context, CornerRadius, FontFamily, FontId, Response, Stroke, TextStyle, Theme, Ui, Visuals, vec2,
};

/// Widest column of text, in points: longer lines are hard to read.
pub const COLUMN: f32 = 780.0;

/// Sets colours and sizes for light and dark.
pub fn apply(ctx: &Context) {
    for theme in [Theme::Light, Theme::Dark] {
        ctx.set_visuals_of(theme, visuals(theme == Theme::Dark));
        ctx.style_mut_of(theme, |style| {
            style.spacing.item_spacing = vec2(8.0, 6.0);
            style.spacing.button_padding = vec2(10.0, 5.0);
            style.spacing.interact_size.y = 28.0;
            style.spacing.slider_width = 150.0;
            style.url_in_tooltip = true;
            for (text, size) in [
                (TextStyle::Body, 15.0),
                (TextStyle::Button, 14.5),
                (TextStyle::Small, 12.5),
                (TextStyle::Heading, 21.0),
            ] {
                style.text_styles.insert(text, FontId::new(size, FontFamily::Proportional));
            }
            style.text_styles.insert(TextStyle::Monospace, FontId::new(14.0, FontFamily::Monospace));
        });
    }
}

fn visuals(dark: bool) -> Visuals {
    let grey = Color32::from_gray;
    let mut visuals = if dark { Visuals::dark() } else { Visuals::light() };
    let accent = accent(dark);
    visuals.panel_fill = if dark { Color32::from_rgb(24, 26, 30) } else { Color32::from_rgb(250, 250, 251) };
    visuals.window_fill = if dark { Color32::from_rgb(32, 34, 39) } else { Color32::WHITE };
    visuals.extreme_bg_color = if dark { Color32::from_rgb(16, 17, 20) } else { Color32::from_rgb(242, 243, 246) };
    visuals.faint_bg_color = if dark { Color32::from_rgb(36, 39, 45) } else { Color32::from_rgb(238, 240, 244) };
    visuals.code_bg_color = visuals.faint_bg_color;
    visuals.hyperlink_color = accent;
    visuals.selection.bg_fill = accent.gamma_multiply(if dark { 0.45 } else { 0.25 });
    visuals.selection.stroke = Stroke::new(1.0, if dark { grey(245) } else { grey(20) });
    // Text that is read has a contrast of 10 to 1 and more, quiet text 5 to 1.
    let (text, strong) = if dark { (grey(220), grey(248)) } else { (grey(40), grey(10)) };
    visuals.widgets.noninteractive.fg_stroke.color = text;
    visuals.widgets.inactive.fg_stroke.color = text;
    visuals.widgets.hovered.fg_stroke.color = strong;
    visuals.widgets.active.fg_stroke.color = strong;
    visuals.weak_text_color = Some(if dark { grey(160) } else { grey(98) });
    visuals.widgets.noninteractive.bg_stroke.color = if dark { grey(58) } else { grey(216) };
    let fills = if dark {
        [Color32::from_rgb(46, 49, 56), Color32::from_rgb(58, 62, 70)]
    } else {
        [Color32::from_rgb(230, 233, 238), Color32::from_rgb(216, 221, 229)]
    };
    for (state, fill) in [(&mut visuals.widgets.inactive, fills[0]), (&mut visuals.widgets.hovered, fills[1])] {
        state.weak_bg_fill = fill;
        state.bg_fill = fill;
    }
    for state in [
        &mut visuals.widgets.noninteractive,
        &mut visuals.widgets.inactive,
        &mut visuals.widgets.hovered,
        &mut visuals.widgets.active,
        &mut visuals.widgets.open,
    ] {
        state.corner_radius = CornerRadius::same(6);
    }
    // A caret that blinks would draw the whole window twice a second for as long as it is open.
    visuals.text_cursor.blink = false;
    visuals.window_corner_radius = CornerRadius::same(10);
    visuals.menu_corner_radius = CornerRadius::same(8);
    visuals
}

/// The colour of what is most important.
#[must_use]
pub fn accent(dark: bool) -> Color32 {
    if dark { Color32::from_rgb(122, 170, 255) } else { Color32::from_rgb(30, 90, 200) }
}

/// Done.
#[must_use]
pub fn good(dark: bool) -> Color32 {
    if dark { Color32::from_rgb(110, 200, 130) } else { Color32::from_rgb(20, 115, 50) }
}

/// Worth knowing.
#[must_use]
pub fn warning(dark: bool) -> Color32 {
    if dark { Color32::from_rgb(235, 180, 80) } else { Color32::from_rgb(140, 85, 0) }
}

/// Not done.
#[must_use]
pub fn error(dark: bool) -> Color32 {
    if dark { Color32::from_rgb(255, 130, 125) } else { Color32::from_rgb(180, 30, 30) }
}

/// A button for the one thing a view is for.
pub fn primary(ui: &mut Ui, enabled: bool, text: &str) -> Response {
    let dark = ui.visuals().dark_mode;
    let ink = if dark { Color32::from_gray(10) } else { Color32::WHITE };
    // What cannot be pressed looks so: a faded accent would still be the loudest thing there.
    if !enabled {
        return ui.add_enabled(false, egui::Button::new(text));
    }
    ui.add(egui::Button::new(egui::RichText::new(text).color(ink).strong()).fill(accent(dark)))
}

/// Gives a widget the name that screen readers and tests know it by.
pub fn named(ui: &Ui, response: &Response, name: &str) {
    ui.ctx().accesskit_node_builder(response.id, |node| node.set_label(name));
}

/// A column of text in the middle.
pub fn column<R>(ui: &mut Ui, width: f32, content: impl FnOnce(&mut Ui) -> R) -> R {
    let margin = ((ui.available_width() - width) / 2.0).max(0.0);
    ui.horizontal_top(|ui| {
        ui.spacing_mut().item_spacing.x = 0.0;
        ui.add_space(margin);
        ui.vertical(|ui| {
            ui.spacing_mut().item_spacing.x = 8.0;
            ui.set_width(width.min(ui.available_width()));
            content(ui)
        })
        .inner
    })
    .inner
}

/// Small quiet text.
pub fn quiet(ui: &mut Ui, text: impl Into<String>) -> Response {
    ui.label(egui::RichText::new(text.into()).small().weak())
}

/// A box that belongs together.
pub fn card<R>(ui: &mut Ui, content: impl FnOnce(&mut Ui) -> R) -> R {
    let frame = egui::Frame::group(ui.style()).inner_margin(14.0).fill(ui.visuals().window_fill());
    frame
        .show(ui, |ui| {
            ui.set_width(ui.available_width());
            content(ui)
        })
        .inner
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance and contrast as WCAG 2.1 defines them.
    fn contrast(a: Color32, b: Color32) -> f64 {
        let channel = |value: u8| {
            let value = f64::from(value) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        let luminance = |c: Color32| 0.2126 * channel(c.r()) + 0.7152 * channel(c.g()) + 0.0722 * channel(c.b());
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn every_text_colour_can_be_read() {
        for dark in [false, true] {
            let visuals = visuals(dark);
            let weak = visuals.weak_text_color.expect("set");
            let texts = [
                visuals.widgets.noninteractive.fg_stroke.color,
                weak,
                accent(dark),
                good(dark),
                warning(dark),
                error(dark),
            ];
            for ground in [visuals.panel_fill, visuals.window_fill] {
                for text in texts {
                    assert!(contrast(text, ground) >= 4.5, "{text:?} on {ground:?}: {:.2}", contrast(text, ground));
                }
            }
            let ink = if dark { Color32::from_gray(10) } else { Color32::WHITE };
            assert!(contrast(ink, accent(dark)) >= 4.5);
        }
    }
}
