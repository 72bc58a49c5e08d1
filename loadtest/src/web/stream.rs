//! The stream that a page follows: the list of runs whenever it changes, and the events of one run.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{Stream, unfold};
use tokio::sync::watch;

use super::keep::{Keep, Kept};

/// How far a page is.
struct Follower {
    keep: Arc<Keep>,
    changes: watch::Receiver<u64>,
    followed: Option<Followed>,
    pending: VecDeque<Event>,
}

/// The run that it follows.
struct Followed {
    kept: Arc<Kept>,
    lines: watch::Receiver<u64>,
    /// The byte after the last line that was read.
    end: u64,
    /// The number of that line, from 1. It is the id of the event.
    line: usize,
    /// The last line that the page already has.
    seen: usize,
}

/// The stream for a page that has the first `seen` lines of a run.
pub(super) fn follow(
    keep: Arc<Keep>,
    kept: Option<Arc<Kept>>,
    seen: usize,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let mut changes = keep.changes();
    // The list is new to the page.
    changes.mark_changed();
    let followed = kept.map(|kept| {
        let mut lines = kept.lines();
        lines.mark_changed();
        Followed { kept, lines, end: 0, line: 0, seen }
    });
    let follower = Follower { keep, changes, followed, pending: VecDeque::new() };
    Sse::new(unfold(follower, next)).keep_alive(KeepAlive::default())
}

async fn next(mut follower: Follower) -> Option<(Result<Event, Infallible>, Follower)> {
    loop {
        if let Some(event) = follower.pending.pop_front() {
            return Some((Ok(event), follower));
        }
        let (changes, followed) = (&mut follower.changes, &mut follower.followed);
        let lines = async {
            match followed {
                Some(followed) => followed.lines.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = changes.changed() => {
                changed.ok()?;
                let list = serde_json::to_string(&follower.keep.summaries()).ok()?;
                follower.pending.push_back(Event::default().event("runs").data(list));
            }
            changed = lines => {
                changed.ok()?;
                follower.pending.extend(follower.followed.as_mut()?.new_events());
            }
        }
    }
}

impl Followed {
    /// The lines that are new, as events with their numbers.
    fn new_events(&mut self) -> Vec<Event> {
        // What cannot be read now is read with the next line.
        let Ok((lines, end)) = self.kept.lines_from(self.end) else { return Vec::new() };
        self.end = end;
        let first = self.line + 1;
        self.line += lines.len();
        let numbered = (first..).zip(lines).filter(|(number, _)| *number > self.seen);
        numbered.map(|(number, line)| Event::default().id(number.to_string()).data(line)).collect()
    }
}
