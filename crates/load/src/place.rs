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
