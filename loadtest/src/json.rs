//! The JSON file: whole or not at all, and known to be writable before the load runs.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::result::RunResult;

/// Where results go.
#[derive(Debug)]
pub(crate) struct JsonFile {
    path: PathBuf,
    /// Whether it holds an array.
    is_series: bool,
}

impl JsonFile {
    /// Makes sure now that a file can be written there later.
    pub(crate) fn prepare(path: &Path, is_series: bool) -> Result<Self> {
        let file = Self { path: path.to_owned(), is_series };
        let context = || format!("--json {} cannot be written", path.display());
        ensure!(!path.is_dir(), "--json {} is a directory: name a file", path.display());
        let mut probe = NamedTempFile::new_in(file.directory()).with_context(context)?;
        probe.write_all(b"{}").and_then(|()| probe.as_file().sync_all()).with_context(context)?;
        Ok(file)
    }

    /// Replaces the file by these results.
    pub(crate) fn write(&self, results: &[RunResult]) -> Result<()> {
        let context = || format!("--json {} cannot be written", self.path.display());
        match results {
            [one] if !self.is_series => self.replace(one).with_context(context),
            _ => self.replace(&results).with_context(context),
        }
    }

    fn replace(&self, content: &impl Serialize) -> Result<()> {
        let mut file = NamedTempFile::new_in(self.directory())?;
        let mut writer = BufWriter::new(file.as_file_mut());
        serde_json::to_writer_pretty(&mut writer, content)?;
        writeln!(writer)?;
        writer.flush()?;
        drop(writer);
        self.allow_others_to_read(file.as_file())?;
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        Ok(())
    }

    /// A temporary file is its owner's alone; a result is not a secret.
    fn allow_others_to_read(&self, file: &File) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        Ok(file.set_permissions(std::fs::Permissions::from_mode(0o644))?)
    }

    /// A rename is atomic within one directory.
    fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        }
    }
}
