//! Writes accounts: a table or JSON, in place on a terminal.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};

use anyhow::{Context as _, Result};
use console::Term;
use meter::Ledger;
use quantity::format;

use crate::account::{Account, Charged, seen_sum_bytes};
use crate::cli::{Cli, What};

/// As much of a command is shown.
const SUBJECT_CHARS: usize = 60;

/// Where accounts go.
pub(crate) struct Output {
    target: Target,
    is_json: bool,
    /// How many lines the last table has on the terminal, which the next one replaces.
    shown_lines: usize,
}

enum Target {
    Terminal(Term),
    /// A file or a stream, and its name.
    Other(Box<dyn Write>, String),
}

impl Output {
    /// # Errors
    /// The file of `--output` cannot be written.
    pub(crate) fn new(cli: &Cli) -> Result<Self> {
        // Standard output is the command's.
        let is_stderr = matches!(cli.what(), What::Command(_));
        let target = match &cli.output {
            Some(path) => {
                let name = path.display().to_string();
                let file = File::create(path).with_context(|| format!("cannot write {name}"))?;
                Target::Other(Box::new(file), name)
            }
            None if is_stderr && io::stderr().is_terminal() => Target::Terminal(Term::stderr()),
            None if !is_stderr && io::stdout().is_terminal() => Target::Terminal(Term::stdout()),
            None if is_stderr => Target::Other(Box::new(io::stderr()), "standard error".to_owned()),
            None => Target::Other(Box::new(io::stdout()), "standard output".to_owned()),
        };
        Ok(Self { target, is_json: cli.json, shown_lines: 0 })
    }

    /// Writes an account; on a terminal in place of the last one.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn write(&mut self, account: &Account) -> Result<()> {
        let text = if self.is_json { serde_json::to_string(account)? + "\n" } else { table(account) };
        match &mut self.target {
            Target::Terminal(terminal) => {
                terminal.clear_last_lines(self.shown_lines)?;
                self.shown_lines = if self.is_json { 0 } else { text.lines().count() };
                terminal.write_str(&text).context("cannot write to the terminal")
            }
            Target::Other(stream, name) => {
                stream.write_all(text.as_bytes()).with_context(|| format!("cannot write to {name}"))
            }
        }
    }
}

/// The account as a table.
fn table(account: &Account) -> String {
    let mut lines = vec![heading(account)];
    if let Some(charged) = &account.charged {
        charged_lines(charged, &mut lines);
    }
    if let Some(seen) = &account.seen {
        let total = account.charged.as_ref().map(|charged| charged.total_bytes);
        seen_lines(seen, total, &mut lines);
    }
    if let Some(bytes) = account.seen.as_ref().and_then(|seen| seen.uncharged_sockets_bytes).filter(|&bytes| bytes > 0)
    {
        let bytes = format::bytes(Some(bytes));
        lines.push(format!("note: {bytes} of accepted connections are charged to nobody (before Linux 6.12)"));
    }
    lines.extend(account.notes.iter().map(|note| format!("note: {note}")));
    lines.join("\n") + "\n"
}

fn heading(account: &Account) -> String {
    let mut text = one_line(&account.subject);
    if let Some(end) = &account.end {
        text += &format!(": {} after {:.2} s", end.how, end.after_s);
    }
    if let Some(peak) = account.peak_bytes {
        text += &format!("\npeak {}", format::bytes(Some(peak)));
    }
    if account.seen.is_some() {
        text += &format!("\nread at {:.2} s:", account.at_s);
    }
    text
}

/// The beginning of what was asked for, without what would disturb the table.
fn one_line(subject: &str) -> String {
    let mut characters = subject.chars().map(|character| if character.is_control() { ' ' } else { character });
    let mut text: String = characters.by_ref().take(SUBJECT_CHARS).collect();
    if characters.next().is_some() {
        text += "...";
    }
    text
}

fn charged_lines(charged: &Charged, lines: &mut Vec<String>) {
    lines.push("charged to the cgroup".to_owned());
    let parts = [
        ("anonymous pages", charged.anonymous_bytes),
        ("page cache", charged.page_cache_bytes),
        ("page tables", charged.page_tables_bytes),
        ("kernel stacks", charged.kernel_stacks_bytes),
        ("slab and the rest", charged.slab_and_rest_bytes),
        ("socket buffers", charged.socket_buffers_bytes),
    ];
    lines.extend(parts.into_iter().filter(|(_, bytes)| bytes.is_some()).map(|(name, bytes)| line(name, bytes, "")));
    let share = share(charged.sum_bytes, Some(charged.total_bytes));
    lines.push(line("sum", charged.sum_bytes, &share));
    lines.push(line("total", Some(charged.total_bytes), ""));
}

fn seen_lines(seen: &Ledger, total_bytes: Option<u64>, lines: &mut Vec<String>) {
    let counts = [("processes", Some(seen.processes)), ("threads", Some(seen.threads)), ("sockets", seen.sockets)];
    let counts = counts.into_iter().filter_map(|(name, count)| Some((name, format::count(count? as f64))));
    let counts: Vec<_> = counts.map(|(name, count)| format!("{name}: {count}")).collect();
    lines.push(format!("in /proc ({})", counts.join(", ")));
    lines.push(line("PSS", seen.pss_bytes, ""));
    lines.push(line("page tables", seen.page_tables_bytes, ""));
    lines.push(line("kernel stacks", seen.kernel_stacks_bytes, ""));
    lines.push(line("sockets", seen.sockets_bytes, "and what is queued in them"));
    let sum = seen_sum_bytes(seen);
    lines.push(line("sum", sum, &share(sum, total_bytes)));
    lines.push(line("private, dirty", seen.private_dirty_bytes, "a part of PSS"));
    lines.push(line("RSS added up", seen.rss_sum_bytes, "a shared page counts for each process"));
    lines.extend(seen.missing.iter().map(|missing| format!("note: {}: {}", missing.figure, missing.why)));
}

fn line(name: &str, bytes: Option<u64>, remark: &str) -> String {
    format!("  {name:<18} {:>12}  {remark}", format::bytes(bytes)).trim_end().to_owned()
}

fn share(bytes: Option<u64>, of: Option<u64>) -> String {
    match (bytes, of) {
        (Some(bytes), Some(of)) if of > 0 => format!("{:.1} % of the total", bytes as f64 / of as f64 * 100.0),
        _ => String::new(),
    }
}
