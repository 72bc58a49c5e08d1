//! What every page has around its content.

use maud::{DOCTYPE, Markup, PreEscaped, html};

/// A page loads nothing, even if the results are hostile.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";
/// The style of every page.
pub(super) const STYLE: &str = include_str!("style.css");

/// A whole page with this title above its content.
pub(super) fn document(title: &str, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { main { h1 { (title) } (content) } }
        }
    }
}
