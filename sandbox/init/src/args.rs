//! The arguments.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;

/// What it was asked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Args {
    /// The socket of the run's allow-list, where it may use the network.
    pub(crate) egress: Option<PathBuf>,
    /// Where to report to.
    pub(crate) status: Status,
    /// The command and its arguments.
    pub(crate) command: Vec<OsString>,
}

/// Where to report to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Status {
    /// Nowhere: the exit code is all.
    #[default]
    Nowhere,
    /// A descriptor that was inherited.
    Descriptor(RawFd),
    /// A socket to connect to, once, before the command is there.
    Socket(PathBuf),
}

impl Args {
    /// Reads the arguments, without the program's own name.
    pub(crate) fn parse(given: impl IntoIterator<Item = OsString>) -> Result<Self, &'static str> {
        let mut given = given.into_iter();
        let mut args = Self::default();
        loop {
            let option = given.next().ok_or("no `--` before the command")?;
            let mut value = || given.next().ok_or("an option has no value");
            match option.to_str() {
                Some("--egress") => args.egress = Some(value()?.into()),
                Some("--status-path") => args.status = Status::Socket(value()?.into()),
                Some("--status-fd") => {
                    let text = value()?;
                    let number = text.to_str().and_then(|text| text.parse().ok()).filter(|fd| *fd > 2);
                    args.status = Status::Descriptor(number.ok_or("--status-fd is no descriptor above 2")?);
                }
                Some("--") => break,
                _ => return Err("an unknown option"),
            }
        }
        args.command = given.collect();
        if args.command.is_empty() { Err("no command") } else { Ok(args) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Args, &'static str> {
        Args::parse(text.split_whitespace().map(OsString::from))
    }

    #[test]
    fn everything_after_the_dashes_is_the_commands() {
        let args = parse("--egress /run/e.sock --status-fd 7 -- sh --egress -- -c").unwrap();
        assert_eq!(args.egress, Some("/run/e.sock".into()));
        assert_eq!(args.status, Status::Descriptor(7));
        assert_eq!(args.command, ["sh", "--egress", "--", "-c"]);
        assert_eq!(parse("--status-path /run/s.sock -- true").unwrap().status, Status::Socket("/run/s.sock".into()));
    }

    #[test]
    fn what_is_not_understood_starts_nothing() {
        for text in
            ["", "true", "--", "--egress", "--egress -- ", "--status-fd 2 -- x", "--status-fd x -- x", "-x -- x"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
