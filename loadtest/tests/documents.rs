//! What the documents link to is there, and their lists of contents are complete.

use std::fs;
use std::path::{Path, PathBuf};

/// The Markdown files of the repository that people read first, and those that they link to.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let is_markdown = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
    let mut found: Vec<_> =
        fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(is_markdown).collect();
    found.extend(
        fs::read_dir(root.join("loadtest/record")).unwrap().map(|entry| entry.unwrap().path().join("README.md")),
    );
    found.push(root.join("crates/contract/HTTP-CASES.md"));
    found.retain(|path| path.is_file());
    assert!(found.len() > 8, "{found:?}");
    found
}

/// The text without its code.
fn prose(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let mut is_code = false;
    let mut prose = String::new();
    for line in text.lines() {
        is_code ^= line.starts_with("```");
        if !is_code && !line.starts_with("    ") {
            prose += line;
            prose.push('\n');
        }
    }
    prose
}

/// The targets of `[text](target)`.
fn links(prose: &str) -> impl Iterator<Item = &str> {
    prose.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0))
}

/// A heading's anchor, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = |letter: &char| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_');
    heading.trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
}

fn anchors(prose: &str) -> Vec<String> {
    prose.lines().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn what_is_linked_to_is_there() {
    let mut checked = 0;
    for document in documents() {
        let text = prose(&document);
        for link in links(&text).filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { document.clone() } else { document.with_file_name(path) };
            assert!(target.exists(), "{}: {link} is not there", document.display());
            if !fragment.is_empty() {
                let there = anchors(&prose(&target));
                assert!(there.iter().any(|anchor| anchor == fragment), "{}: {link} is no heading", document.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 100, "only {checked} links");
}

#[test]
fn the_contents_name_every_section() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for name in ["README.md", "METHODOLOGY.md"] {
        let text = prose(&root.join(name));
        let contents: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("- [")?.split_once("](#")).collect();
        for heading in text.lines().filter_map(|line| line.strip_prefix("## ")).filter(|heading| *heading != "Licence")
        {
            let is_named = contents.iter().any(|(title, _)| *title == heading);
            assert!(is_named, "{name}: {heading:?} is not in the contents");
        }
    }
}
