//! Links. The system would start whatever program an address names, so only http and https are let through, and only after the
//! user has seen where they lead.

use eframe::egui::{Context, Id, Modal, OpenUrl, OutputCommand, RichText};

use crate::look;

/// An address that was clicked and may be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// As the link has it.
    pub url: String,
    /// Where it leads.
    pub host: String,
}

/// The host of an address that may be opened at all.
#[must_use]
pub fn host_of(url: &str) -> Option<&str> {
    let plain = url.chars().all(|c| !c.is_control() && !c.is_whitespace() && c != '\\');
    let lower = url.get(..8)?.to_ascii_lowercase();
    let rest = match lower.as_str() {
        "https://" => &url[8..],
        _ if lower.starts_with("http://") => &url[7..],
        _ => return None,
    };
    let authority = rest.split(['/', '?', '#']).next()?;
    // A name before @ would pose as the host.
    let host = authority.rsplit('@').next()?;
    (plain && !host.is_empty()).then_some(host)
}

/// Takes every wish to open an address out of this frame's output. Returns the last that may be asked about, and how many were
/// refused.
pub fn take(ctx: &Context) -> (Option<Asked>, usize) {
    let (mut asked, mut refused) = (None, 0);
    ctx.output_mut(|output| {
        output.commands.retain(|command| match command {
            OutputCommand::OpenUrl(OpenUrl { url, .. }) => {
                match host_of(url) {
                    Some(host) => asked = Some(Asked { url: url.clone(), host: host.to_owned() }),
                    None => refused += 1,
                }
                false
            }
            _ => true,
        });
    });
    (asked, refused)
}

/// Asks whether to open an address. Returns whether the question is answered.
pub fn ask_ui(ctx: &Context, asked: &Asked) -> bool {
    let mut answered = false;
    let modal = Modal::new(Id::unique("open link")).show(ctx, |ui| {
        ui.set_width(420.0);
        ui.heading("Open this link?");
        ui.label("It leads out of this program, to");
        ui.label(RichText::new(&asked.host).strong());
        look::quiet(ui, &asked.url);
        ui.add_space(8.0);
        ui.horizontal(|ui| {
            if look::primary(ui, true, "Open in the browser").clicked() {
                ui.ctx().open_url(OpenUrl::new_tab(&asked.url));
                answered = true;
            }
            if ui.button("Copy the link").clicked() {
                ui.ctx().copy_text(asked.url.clone());
                answered = true;
            }
            if ui.button("Cancel").clicked() {
                answered = true;
            }
        });
    });
    answered || modal.should_close()
}

#[cfg(test)]
mod tests {
    use super::host_of;

    #[test]
    fn only_web_addresses_have_a_host() {
        assert_eq!(host_of("https://arxiv.org/abs/2303.16199"), Some("arxiv.org"));
        assert_eq!(host_of("HTTP://localhost:80?x"), Some("localhost:80"));
        assert_eq!(host_of("https://good.example@evil.example/x"), Some("evil.example"));
        for url in [
            "file:///etc/passwd",
            "javascript:alert(1)",
            "ms-msdt:/id",
            "https://",
            "https:///x",
            "http:/x.y",
            "ftp://x.y",
            "//x.y",
            "x",
            "",
            "https://x y",
            "https://x\\y",
            "\u{1}https://x",
            "data:text/html,x",
            "ſhttps://x",
        ] {
            assert_eq!(host_of(url), None, "{url:?}");
        }
    }
}
