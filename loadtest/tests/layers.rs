//! The layering rule: dependencies only point down. Cargo enforces it between crates; these tests enforce it between
//! the folders of loadtest and between the files of every crate.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The folders of loadtest, each with the folders that it may use.
const LAYERS: &[(&str, &[&str])] = &[
    ("main", &["cli", "commands", "machine", "subject"]),
    ("cli", &["commands", "subject"]),
    ("commands", &["experiments", "measure", "output", "web", "fleet", "wrk", "subject", "machine"]),
    ("experiments", &["measure", "subject", "machine"]),
    ("measure", &["subject", "machine"]),
    ("output", &["machine"]),
    ("web", &["subject", "machine"]),
    ("fleet", &["machine"]),
    ("wrk", &[]),
    ("subject", &["machine"]),
    ("machine", &[]),
];

/// A file's module path within its crate: `measure::run`.
type Module = String;

/// The files of a crate, each with the files that it uses.
type Uses = BTreeMap<Module, BTreeSet<Module>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The `src` folders of all crates of the workspace.
fn sources() -> Vec<PathBuf> {
    let crates = fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap().path().join("src"));
    crates.chain([root().join("loadtest/src")]).filter(|src| src.is_dir()).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => files(&path),
            false => vec![path],
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

fn module(src: &Path, file: &Path) -> Module {
    let path = file.strip_prefix(src).unwrap().with_extension("");
    path.components().map(|part| part.as_os_str().to_str().unwrap()).collect::<Vec<_>>().join("::")
}

/// The paths below `crate`, `super` or `self` in a text, with brace groups expanded. Tests at the end of a file do not
/// count.
fn paths(module: &str, text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let code = code.join("\n");
    let is_root = ["main", "lib"].contains(&module);
    let own = if is_root { "" } else { module };
    let parent = own.rsplit_once("::").map_or("", |(parent, _)| parent);
    let mut found = Vec::new();
    for (start, base) in [("crate::", ""), ("super::", parent), ("self::", own)] {
        for (at, _) in code.match_indices(start) {
            let is_word =
                code[..at].chars().next_back().is_some_and(|before| before.is_alphanumeric() || before == '_');
            // `super::super::` resolves one level too low, but is not used here.
            if !is_word {
                expand(base, &code[at + start.len()..], &mut found);
            }
        }
    }
    found
}

/// Expands `a::{b, c::d}` to `a::b` and `a::c::d`.
fn expand(base: &str, rest: &str, found: &mut Vec<String>) {
    let join = |name: &str| if base.is_empty() { name.to_owned() } else { format!("{base}::{name}") };
    if let Some(group) = rest.strip_prefix('{') {
        let (mut depth, mut start) = (0, 0);
        for (at, character) in group.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    expand(base, group[start..at].trim(), found);
                    start = at + 1;
                    if character == '}' {
                        return;
                    }
                }
                _ => {}
            }
        }
        return;
    }
    let end = rest.find(|character: char| !character.is_alphanumeric() && character != '_').unwrap_or(rest.len());
    if end == 0 {
        return;
    }
    match rest[end..].strip_prefix("::") {
        Some(deeper) if !deeper.starts_with('<') => expand(&join(&rest[..end]), deeper, found),
        _ => found.push(join(&rest[..end])),
    }
}

/// Which files use which in a crate.
fn uses(src: &Path) -> Uses {
    let files: BTreeMap<Module, String> =
        files(src).iter().map(|file| (module(src, file), fs::read_to_string(file).unwrap())).collect();
    let root = ["main", "lib"].into_iter().find(|root| files.contains_key(*root)).unwrap_or("lib");
    let used_by = |module: &Module, text: &String| {
        let used = paths(module, text).into_iter().map(|path| owner(&path, &files, root));
        // A file that declares or re-exports its folder's modules uses them, which is not a cycle by itself.
        used.filter(|used| used != module).collect()
    };
    files.iter().map(|(module, text)| (module.clone(), used_by(module, text))).collect()
}

/// The file that a path leads to: its longest prefix that is a file.
fn owner(path: &str, files: &BTreeMap<Module, String>, root: &str) -> Module {
    let mut path = path;
    loop {
        if files.contains_key(path) {
            return path.to_owned();
        }
        match path.rsplit_once("::") {
            Some((parent, _)) => path = parent,
            None => return root.to_owned(),
        }
    }
}

/// A cycle, if there is one: each file uses the next, and the last is the first.
fn cycle(uses: &Uses) -> Option<Vec<Module>> {
    fn visit(at: &Module, uses: &Uses, path: &mut Vec<Module>, done: &mut BTreeSet<Module>) -> Option<Vec<Module>> {
        if let Some(start) = path.iter().position(|module| module == at) {
            return Some(path[start..].iter().chain([at]).cloned().collect());
        }
        if done.contains(at) {
            return None;
        }
        path.push(at.clone());
        let found = uses[at].iter().find_map(|next| visit(next, uses, path, done));
        path.pop();
        done.insert(at.clone());
        found
    }
    let mut done = BTreeSet::new();
    uses.keys().find_map(|module| visit(module, uses, &mut Vec::new(), &mut done))
}

#[test]
fn folders_use_only_those_below_them() {
    let uses = uses(&root().join("loadtest/src"));
    let folder = |module: &str| module.split("::").next().unwrap_or_default().to_owned();
    for (module, used) in &uses {
        let own = folder(module);
        let (_, allowed) = LAYERS.iter().find(|(name, _)| *name == own).unwrap_or_else(|| panic!("{own} has no layer"));
        for other in used.iter().map(|module| folder(module)).filter(|other| *other != own) {
            assert!(allowed.contains(&other.as_str()), "{module} uses {other}, which is not below {own}");
        }
    }
    // The list of layers itself only points down.
    for (at, (name, allowed)) in LAYERS.iter().enumerate() {
        let below: Vec<_> = LAYERS[at + 1..].iter().map(|(name, _)| *name).collect();
        assert!(allowed.iter().all(|used| below.contains(used)), "{name} may use what is not below it");
    }
}

#[test]
fn files_have_no_cycles() {
    let cycles = sources().into_iter().filter_map(|src| Some((cycle(&uses(&src))?.join(" -> "), src)));
    assert_eq!(cycles.collect::<Vec<_>>(), []);
}

#[test]
fn a_cycle_is_found() {
    assert_eq!(paths("a::b", "use super::c::{D, e::f};\nlet x = crate::g::h();\n"), ["g::h", "a::c::D", "a::c::e::f"]);
    let uses = |pairs: &[(&str, &[&str])]| -> Uses {
        pairs
            .iter()
            .map(|(module, used)| (module.to_string(), used.iter().map(ToString::to_string).collect()))
            .collect()
    };
    assert_eq!(cycle(&uses(&[("a", &["b"]), ("b", &["c"]), ("c", &[])])), None);
    assert_eq!(cycle(&uses(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])])).unwrap(), ["b", "c", "b"]);
}
