//! The progress of several steps whose durations are known roughly: a bar on a terminal, a line for each elsewhere.

use std::time::Duration;

use console::Term;
use indicatif::{ProgressBar, ProgressStyle};
use quantity::format::rough_duration;

use crate::machine::terminal::say;

const STYLE: &str = "{prefix:11} {wide_bar} {percent:>3} % {elapsed:>4}\n{msg}";
const TICK_INTERVAL: Duration = Duration::from_millis(200);

/// The progress.
pub(crate) struct Steps {
    count: usize,
    begun: usize,
    /// What the steps before this one were to take.
    before: Duration,
    current: Duration,
    bar: Option<ProgressBar>,
}

impl Steps {
    /// So many steps, of `total` altogether.
    pub(crate) fn new(count: usize, total: Duration) -> Self {
        let bar = (count > 0 && Term::stderr().is_term()).then(|| {
            let bar = ProgressBar::new(total.as_secs());
            if let Ok(style) = ProgressStyle::with_template(STYLE) {
                bar.set_style(style);
            }
            bar.enable_steady_tick(TICK_INTERVAL);
            bar
        });
        Self { count, begun: 0, before: Duration::ZERO, current: Duration::ZERO, bar }
    }

    /// The next step.
    pub(crate) fn begin(&mut self, name: &str, what: &str, estimate: Duration) {
        self.begun += 1;
        self.before += self.current;
        self.current = estimate;
        let (begun, count) = (self.begun, self.count);
        match &self.bar {
            Some(bar) => {
                bar.set_position(self.before.as_secs());
                bar.set_prefix(format!("{begun} of {count}"));
                bar.set_message(format!("{name}: {what}, about {}", rough_duration(estimate)));
            }
            None => say(format_args!("[{begun}/{count}] {name}: {what}, about {}", rough_duration(estimate))),
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
