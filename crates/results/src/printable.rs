//! Text that others wrote, as it may be printed on a terminal.

use serde_json::Value;

/// The same text, with U+FFFD for each control character but tab and line feed. They would move the cursor, change colours, or hide
/// what else is said.
pub fn printable(text: &str) -> String {
    let is_harmless = |character: char| !character.is_control() || matches!(character, '\t' | '\n');
    text.chars().map(|character| if is_harmless(character) { character } else { char::REPLACEMENT_CHARACTER }).collect()
}

/// A file may come from anybody, and what it says is printed.
pub(crate) fn make_printable(json: &mut Value) {
    match json {
        Value::String(text) => *text = printable(text),
        Value::Array(entries) => entries.iter_mut().for_each(make_printable),
        Value::Object(fields) => fields.values_mut().for_each(make_printable),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_seen_is_left() {
        assert_eq!(printable("a\tb\n\u{e9}\u{1f600}"), "a\tb\n\u{e9}\u{1f600}");
        assert_eq!(
            printable("\x1b[2Ja\x07\r\u{9b}31m\x7f\0"),
            "\u{fffd}[2Ja\u{fffd}\u{fffd}\u{fffd}31m\u{fffd}\u{fffd}"
        );
    }
}
