//! Where users run.

use std::fmt::Debug;

use anyhow::Result;

use crate::generator::Generator;
use crate::goose::GooseGenerator;
use crate::spec::LoadSpec;

/// Where users run: in this process, or in others.
pub trait Place: Debug + Send + Sync {
    /// A generator, not started yet, of so many users. `specs` says what a process with so many of them is to do.
    ///
    /// # Errors
    /// There is no such load, or no process for it.
    fn generator(&self, users: usize, specs: &dyn Fn(usize) -> Result<Vec<LoadSpec>>) -> Result<Box<dyn Generator>>;

    /// How many processes share the users.
    fn processes(&self) -> usize;
}

/// This process.
#[derive(Clone, Copy, Debug)]
pub struct ThisProcess;

impl Place for ThisProcess {
    fn generator(&self, users: usize, specs: &dyn Fn(usize) -> Result<Vec<LoadSpec>>) -> Result<Box<dyn Generator>> {
        Ok(Box::new(GooseGenerator::new(specs(users)?)?))
    }

    fn processes(&self) -> usize {
        1
    }
}

/// Splits users evenly: no part has more than one more than another.
pub fn split(users: usize, parts: usize) -> impl Iterator<Item = usize> {
    let parts = parts.max(1);
    (0..parts).map(move |part| users / parts + usize::from(part < users % parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_split_evenly_and_none_is_lost() {
        assert_eq!(split(10, 3).collect::<Vec<_>>(), [4, 3, 3]);
        assert_eq!(split(2, 2).collect::<Vec<_>>(), [1, 1]);
        assert_eq!(split(10_000, 7).sum::<usize>(), 10_000);
    }
}
