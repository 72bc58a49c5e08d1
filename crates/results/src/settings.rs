//! How a run was loaded, so that two runs can be told apart.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the load generator was asked to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoadSettings {
    /// How long to measure.
    pub duration_ms: u64,
    /// Requests per second; null means as many as the server takes.
    pub rate: Option<u64>,
    /// Threads of the load generator.
    pub threads: usize,
    /// When an answer counts as a timeout.
    pub timeout_ms: u64,
    /// Extra fields of every request. A secret's value (as of Authorization) is replaced by its SHA-256.
    pub headers: Vec<String>,
    /// The script that made the requests.
    pub script: Option<Script>,
    /// What the answers are to keep, if this run is a step of a search for the highest rate; empty otherwise.
    #[serde(default)]
    pub slo: Vec<String>,
    /// The command line of loadtest, without secrets; empty in older files.
    #[serde(default)]
    pub command: Vec<String>,
}

/// A Lua script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Script {
    /// Its file.
    pub path: String,
    /// The SHA-256 of its text, in hexadecimal.
    pub sha256: String,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl LoadSettings {
    /// How `other` differs, one difference a line: `rate: 1000, 2000`.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let rate = |settings: &Self| settings.rate.map_or("none".into(), |rate| rate.to_string());
        let script = |settings: &Self| settings.script.as_ref().map_or("none".into(), Script::describe);
        let headers = |settings: &Self| match settings.headers.as_slice() {
            [] => "none".into(),
            headers => headers.join("; "),
        };
        let time = |millis: u64| quantity::format::duration(std::time::Duration::from_millis(millis));
        [
            ("measured time", time(self.duration_ms), time(other.duration_ms)),
            ("rate", rate(self), rate(other)),
            ("threads", self.threads.to_string(), other.threads.to_string()),
            ("timeout", time(self.timeout_ms), time(other.timeout_ms)),
            ("headers", headers(self), headers(other)),
            ("script", script(self), script(other)),
        ]
        .into_iter()
        .filter(|(_, this, that)| this != that)
        .map(|(name, this, that)| format!("{name}: {this} and {that}"))
        .collect()
    }

    /// The settings of several load generators at work together.
    pub(crate) fn add(self, other: &Self) -> Self {
        Self {
            rate: self.rate.zip(other.rate).map(|(one, other)| one.saturating_add(other)),
            threads: self.threads.saturating_add(other.threads),
            ..self
        }
    }
}

impl Script {
    fn describe(&self) -> String {
        // Enough to see that two are not the same.
        let hash = self.sha256.get(..12).unwrap_or(&self.sha256);
        let arguments = self.arguments.iter().map(|argument| format!(" {argument}")).collect::<String>();
        format!("{}{arguments} ({hash})", self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_named() {
        let one = LoadSettings { duration_ms: 10_000, threads: 2, timeout_ms: 2_000, ..LoadSettings::default() };
        assert!(one.differences(&one).is_empty());
        let script = Script { path: "a.lua".into(), sha256: "0123456789abcdef".into(), arguments: vec!["x".into()] };
        let other = LoadSettings { rate: Some(500), script: Some(script), duration_ms: 5_000, ..one.clone() };
        let expected =
            ["measured time: 10.0 s and 5.00 s", "rate: none and 500", "script: none and a.lua x (0123456789ab)"];
        assert_eq!(one.differences(&other), expected);
    }
}
