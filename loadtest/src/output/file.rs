//! An output file, replaced atomically and checked to be writable before the load runs; or standard output, as `-`.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tempfile::NamedTempFile;

use crate::machine::command_line::WrongArguments;
use crate::machine::terminal::{reserve_stdout, write_to_stdout};

/// Stands for standard output.
const STDOUT: &str = "-";
/// The space that must be free: more than the results of a few minutes take.
const PROBE_BYTES: usize = 1 << 20;

/// An output file.
#[derive(Debug)]
pub(crate) struct OutputFile {
    /// The flag and the name, as the user gave them.
    name: String,
    /// The path, with links resolved.
    path: PathBuf,
}

impl OutputFile {
    /// Checks now that the file can be written later.
    pub(crate) fn prepare(flag: &str, path: &Path) -> Result<Self> {
        let name = format!("{flag} {}", path.display());
        if path == Path::new(STDOUT) {
            reserve_stdout();
            return Ok(Self { name, path: path.to_owned() });
        }
        ensure!(!path.is_dir(), "{name} is a directory: name a file");
        let file = Self { name, path: canonical(path) };
        let folder = file.directory();
        ensure!(folder.is_dir(), "{} cannot be written: there is no folder {}", file.name, folder.display());
        file.probe().with_context(|| file.error_context())?;
        Ok(file)
    }

    /// Whether it is standard output, which can be written only once.
    pub(crate) fn is_stdout(&self) -> bool {
        self.path == Path::new(STDOUT)
    }

    /// Replaces the file's content.
    pub(crate) fn write(&self, content: &[u8]) -> Result<()> {
        self.replace(content).with_context(|| self.error_context())
    }

    /// Checks that it is not the file of another flag, which would overwrite it.
    ///
    /// # Errors
    /// It is.
    pub(crate) fn ensure_apart(&self, flag: &str, path: &Path) -> Result<()> {
        let is_same = self.path == canonical(path) && !self.is_device();
        let text = || format!("{} and {flag} {} are the same file: name two", self.name, path.display());
        ensure!(!is_same, WrongArguments(text()));
        Ok(())
    }

    fn error_context(&self) -> String {
        format!("{} cannot be written", self.name)
    }

    fn probe(&self) -> io::Result<()> {
        if self.is_device() {
            // An empty write is enough for /dev/full to fail.
            return self.open_device()?.write(&[]).map(drop);
        }
        let mut probe = NamedTempFile::new_in(self.directory())?;
        probe.write_all(&vec![0; PROBE_BYTES])?;
        probe.as_file().sync_all()
    }

    fn replace(&self, content: &[u8]) -> io::Result<()> {
        if self.is_stdout() {
            return write_to_stdout(content);
        }
        if self.is_device() {
            return self.open_device()?.write_all(content);
        }
        let mut file = NamedTempFile::new_in(self.directory())?;
        file.write_all(content)?;
        file.as_file().set_permissions(self.permissions())?;
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        // Make the rename survive a power cut, too.
        File::open(self.directory())?.sync_all()
    }

    /// Devices and pipes are written in place; replacing one would destroy it.
    fn is_device(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|metadata| !metadata.is_file())
    }

    fn open_device(&self) -> io::Result<File> {
        File::options().write(true).open(&self.path)
    }

    /// The permissions of the old file, or of any new file. A temporary file's own are too strict.
    fn permissions(&self) -> Permissions {
        fs::metadata(&self.path).map_or_else(|_| Permissions::from_mode(0o666 & !umask()), |old| old.permissions())
    }

    /// The target directory, because a rename is atomic only within one file system.
    fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        }
    }
}

/// The process's umask, from /proc because the system call that returns it also changes it.
fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    umask.and_then(|umask| u32::from_str_radix(umask.trim(), 8).ok()).unwrap_or(0o022)
}

/// The path without links, of a file that may not exist yet.
fn canonical(path: &Path) -> PathBuf {
    if path == Path::new(STDOUT) {
        return path.to_owned();
    }
    if let Ok(path) = fs::canonicalize(path) {
        return path;
    }
    // It may be a link to what does not exist yet.
    let folder = path.parent().unwrap_or(path);
    let path = fs::read_link(path).map_or_else(|_| path.to_owned(), |target| folder.join(target));
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    match (fs::canonicalize(folder), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn write(path: &Path, content: &str) {
        OutputFile::prepare("--json", path).unwrap().write(content.as_bytes()).unwrap();
    }

    #[test]
    fn a_file_that_is_not_there_yet_is_the_same_however_it_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::create_dir(path("folder")).unwrap();
        symlink("a.json", path("link")).unwrap();
        let file = OutputFile::prepare("--json", &path("a.json")).unwrap();
        for (name, is_same) in [("folder/../a.json", true), ("link", true), ("b.json", false), ("folder/a.json", false)]
        {
            assert_eq!(file.ensure_apart("--csv", &path(name)).is_err(), is_same, "{name}");
        }
        write(&path("link"), "through the link");
        assert_eq!(fs::read_to_string(path("a.json")).unwrap(), "through the link");
        let missing = OutputFile::prepare("--json", &path("nowhere/a.json")).unwrap_err().to_string();
        assert!(missing.contains("there is no folder") && missing.ends_with("/nowhere"), "{missing}");
    }

    #[test]
    fn a_link_is_followed_and_permissions_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let [real, link] = ["real.json", "link.json"].map(|name| directory.path().join(name));
        fs::write(&real, "old").unwrap();
        fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
        symlink(&real, &link).unwrap();
        write(&link, "new");
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(link.is_symlink());
    }

    #[test]
    fn a_device_is_not_replaced() {
        write(Path::new("/dev/null"), "new");
        assert!(!Path::new("/dev/null").is_file());
    }

    #[test]
    fn a_full_device_is_detected_before_anything_is_written() {
        let error = OutputFile::prepare("--json", Path::new("/dev/full")).unwrap_err();
        assert!(format!("{error:#}").starts_with("--json /dev/full cannot be written: No space left"), "{error:#}");
    }

    #[test]
    fn a_new_file_has_the_permissions_of_every_new_file() {
        let directory = tempfile::tempdir().unwrap();
        let [ours, plain] = ["ours.json", "plain"].map(|name| directory.path().join(name));
        fs::write(&plain, "").unwrap();
        write(&ours, "new");
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(ours), mode(plain));
    }
}
