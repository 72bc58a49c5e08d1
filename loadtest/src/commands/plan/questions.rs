//! The branches of the article's decision guide, as questions to whoever sits at a terminal and has not answered them by
//! flags.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use anyhow::Result;
use console::Term;

/// The answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answers {
    /// Whether a crash must end one connection only.
    pub(super) isolation: bool,
    /// How long a request computes.
    pub(super) cpu_per_request: Duration,
}

/// Asks what the flags leave open, on a terminal. Elsewhere there is no isolation and nothing computes.
///
/// # Errors
/// The terminal cannot be read.
pub(super) fn ask(isolation: bool, cpu_per_request: Option<Duration>) -> Result<Answers> {
    let terminal = Term::stderr();
    let is_asked = !isolation && cpu_per_request.is_none() && io::stdin().is_terminal() && terminal.is_term();
    if !is_asked {
        return Ok(Answers { isolation, cpu_per_request: cpu_per_request.unwrap_or_default() });
    }
    let answer = |question: &str| -> io::Result<String> {
        terminal.write_str(question)?;
        terminal.read_line()
    };
    let cpu_per_request = loop {
        let time = answer("Does a request compute for longer than the server's own microseconds? How long? [no] ")?;
        match computing(&time) {
            Ok(time) => break time,
            Err(why) => terminal.write_line(&why)?,
        }
    };
    let isolation = answer("Must a crash in one request leave all others alone? [no] ")?;
    Ok(Answers { isolation: is_yes(&isolation), cpu_per_request })
}

/// A time, or nothing for none.
fn computing(answer: &str) -> Result<Duration, String> {
    match answer.trim() {
        "" | "no" | "n" | "none" => Ok(Duration::ZERO),
        time => quantity::duration(time),
    }
}

fn is_yes(answer: &str) -> bool {
    ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_time_or_no() {
        assert_eq!(
            [computing(""), computing("no"), computing(" 5ms ")],
            [Ok(0), Ok(0), Ok(5)].map(|ms| ms.map(Duration::from_millis))
        );
        assert!(computing("much").unwrap_err().contains("write 500us"));
        assert_eq!(["", "n", "Yes", "y"].map(is_yes), [false, false, true, true]);
    }

    #[test]
    fn flags_are_answers() {
        let answers = ask(true, None).unwrap();
        assert_eq!(answers, Answers { isolation: true, cpu_per_request: Duration::ZERO });
    }
}
