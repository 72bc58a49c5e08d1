//! The rows of HTTP-CASES.md and the tests that name them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const CASES: &str = include_str!("../HTTP-CASES.md");

/// The numbers at the start of the rows of the table.
fn rows(tables: &str) -> BTreeSet<u32> {
    let number = |line: &str| line.strip_prefix("| ")?.split(' ').next()?.parse().ok();
    tables.lines().filter_map(number).collect()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// The rows that a source names: `Row 40`, `Rows 4 and 6`, and the first of each tuple `(40, b"...", 400)`.
fn named(source: &str) -> BTreeSet<u32> {
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u32>().ok();
    let comments = source.lines().filter(|line| line.trim_start().starts_with("//"));
    let in_comments = comments.flat_map(|line| {
        let line = line.to_ascii_lowercase();
        let after: Vec<_> = line
            .match_indices("row")
            .map(|(at, _)| line[at..].trim_start_matches(['r', 'o', 'w', 's', ' ']).to_owned())
            .collect();
        let pairs = after.iter().flat_map(|rest| {
            [digits(rest), rest.split_once(" and ").and_then(|(first, second)| digits(first).and(digits(second)))]
        });
        pairs.flatten().collect::<Vec<_>>()
    });
    let in_tuples = source.match_indices('(').filter_map(|(at, _)| {
        let (number, input) = source[at + 1..].trim_start().split_once(',')?;
        let is_case = ["b\"", "\"", "&"].iter().any(|start| input.trim_start().starts_with(start));
        // What is larger is a status.
        is_case.then(|| number.parse().ok())?.filter(|number| *number < 100)
    });
    in_comments.chain(in_tuples).collect()
}

#[test]
fn every_row_that_a_test_names_is_there_and_every_row_is_named() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folders = [
        "conformance/src",
        "contract/src",
        "common/tests",
        "server-async/tests",
        "server-prefork/tests",
        "server-threadpool/tests",
        "server-threads/tests",
    ];
    let files = folders.iter().flat_map(|folder| sources(&crates.join(folder)));
    let named: BTreeSet<u32> = files.flat_map(|file| named(&fs::read_to_string(file).unwrap())).collect();
    let rows = rows(CASES);
    assert_eq!(rows, (1..=65).collect());
    assert_eq!(named.difference(&rows).collect::<Vec<_>>(), Vec::<&u32>::new(), "named, but in no table");
    assert_eq!(rows.difference(&named).collect::<Vec<_>>(), Vec::<&u32>::new(), "in the table, but named by no test");
}
