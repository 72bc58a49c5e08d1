//! The JSON file: whole or not at all, and known to be writable before the load runs.

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::result::RunResult;

/// Where results go.
#[derive(Debug)]
pub(crate) struct JsonFile {
    /// As it was given.
    name: PathBuf,
    /// What it leads to, if it is a link.
    path: PathBuf,
    /// Whether it holds an array.
    is_series: bool,
}

impl JsonFile {
    /// Makes sure now that it can be written later.
    pub(crate) fn prepare(path: &Path, is_series: bool) -> Result<Self> {
        ensure!(!path.is_dir(), "--json {} is a directory: name a file", path.display());
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let file = Self { name: path.to_owned(), path: target, is_series };
        file.probe().with_context(|| file.complaint())?;
        Ok(file)
    }

    /// Replaces the file by these results.
    pub(crate) fn write(&self, results: &[RunResult]) -> Result<()> {
        let outcome = match results {
            [one] if !self.is_series => self.replace(one),
            _ => self.replace(&results),
        };
        outcome.with_context(|| self.complaint())
    }

    fn complaint(&self) -> String {
        format!("--json {} cannot be written", self.name.display())
    }

    fn probe(&self) -> io::Result<()> {
        if self.is_device() {
            return File::options().write(true).open(&self.path).map(drop);
        }
        let mut probe = NamedTempFile::new_in(self.directory())?;
        probe.write_all(b"{}")?;
        probe.as_file().sync_all()
    }

    fn replace(&self, content: &impl Serialize) -> Result<()> {
        if self.is_device() {
            return write_json(File::options().write(true).open(&self.path)?, content);
        }
        let file = NamedTempFile::new_in(self.directory())?;
        write_json(file.as_file(), content)?;
        file.as_file().set_permissions(self.permissions())?;
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        Ok(())
    }

    /// A device or a pipe is written to: to replace it would be to destroy it.
    fn is_device(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|metadata| !metadata.is_file())
    }

    /// Those of the file that is replaced, else what every new file gets; a temporary file is its owner's alone.
    fn permissions(&self) -> Permissions {
        fs::metadata(&self.path).map_or_else(|_| Permissions::from_mode(0o666 & !umask()), |old| old.permissions())
    }

    /// A rename is atomic within one directory.
    fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        }
    }
}

fn write_json(file: impl Write, content: &impl Serialize) -> Result<()> {
    let mut writer = BufWriter::new(file);
    serde_json::to_writer_pretty(&mut writer, content)?;
    writeln!(writer)?;
    Ok(writer.flush()?)
}

/// The permissions that new files do not get. The system call that tells it also changes it.
fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    umask.and_then(|umask| u32::from_str_radix(umask.trim(), 8).ok()).unwrap_or(0o022)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_is_followed_and_permissions_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let [real, link] = ["real.json", "link.json"].map(|name| directory.path().join(name));
        fs::write(&real, "old").unwrap();
        fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
        symlink(&real, &link).unwrap();
        JsonFile::prepare(&link, true).unwrap().write(&[]).unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "[]\n");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(link.is_symlink());
    }

    #[test]
    fn a_device_stays_one() {
        let file = JsonFile::prepare(Path::new("/dev/null"), true).unwrap();
        assert!(file.is_device());
        file.write(&[]).unwrap();
        assert!(!Path::new("/dev/null").is_file());
    }

    #[test]
    fn a_new_file_has_the_permissions_of_every_new_file() {
        let directory = tempfile::tempdir().unwrap();
        let [ours, plain] = ["ours.json", "plain"].map(|name| directory.path().join(name));
        fs::write(&plain, "").unwrap();
        JsonFile::prepare(&ours, true).unwrap().write(&[]).unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(ours), mode(plain));
    }
}
