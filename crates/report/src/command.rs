//! Command lines, quoted for a shell.

/// The command, quoted where a shell needs it.
pub(crate) fn command_line(command: &[String]) -> String {
    // Only a NUL cannot be quoted, and no command contains one.
    shlex::try_join(command.iter().map(String::as_str)).unwrap_or_else(|_| command.join(" "))
}
