//! Conversations: `sessions/<name>.jsonl`, only ever added to. A name may hold any visible character; on the disk it is
//! percent-encoded, so that no name leads anywhere else.

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::str::FromStr;

use openclawmu_sandbox::{PathError, RelPath};

use super::error::AgentError;
use super::files::{AgentFiles, Of, files, plain, read_bytes};
use super::line::{Line, Lines};

/// Where they are.
const DIR: &str = "sessions";
/// What each file's name ends with.
const END: &str = ".jsonl";
/// The longest session, in bytes.
const MAX_BYTES: u64 = 8 << 20;
/// What a turn may need: without that much room none begins, so that what was paid for can be kept.
const TURN_BYTES: u64 = 1 << 20;
/// The longest name, in bytes.
const MAX_NAME: usize = 128;
/// The longest name as the disk has it, so that it fits with its ending.
const MAX_ENCODED: usize = 240;

/// The name of a conversation: 1 to 128 bytes of text without control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionName(String);

impl SessionName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As the disk has it.
    fn encoded(&self) -> String {
        let mut encoded = String::new();
        for byte in self.0.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b':' | b'@') {
                encoded.push(char::from(byte));
            } else {
                encoded.push_str(&format!("%{byte:02X}"));
            }
        }
        encoded
    }

    /// The name whose file is called so.
    fn of_file(name: &str) -> Option<Self> {
        let encoded = name.strip_suffix(END)?;
        let mut bytes = Vec::new();
        let mut rest = encoded;
        while let Some((first, after)) = rest.split_at_checked(1) {
            let (byte, after) = match (first, after.split_at_checked(2)) {
                ("%", Some((digits, after))) => (u8::from_str_radix(digits, 16).ok()?, after),
                ("%", None) => return None,
                (plain, _) => (plain.bytes().next()?, after),
            };
            bytes.push(byte);
            rest = after;
        }
        let name: Self = String::from_utf8(bytes).ok()?.parse().ok()?;
        (name.encoded() == encoded).then_some(name)
    }

    fn path(&self) -> Result<RelPath, PathError> {
        plain(&format!("{DIR}/{}{END}", self.encoded()))
    }
}

impl FromStr for SessionName {
    type Err = AgentError;

    fn from_str(text: &str) -> Result<Self, AgentError> {
        let name = Self(text.to_owned());
        let is_plain = (1..=MAX_NAME).contains(&text.len()) && !text.chars().any(char::is_control);
        if is_plain && name.encoded().len() <= MAX_ENCODED {
            return Ok(name);
        }
        Err(AgentError::invalid("session", "must have 1 to 128 bytes and no control characters"))
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A conversation in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionFile {
    /// Its name.
    pub name: SessionName,
    /// Its size.
    pub size_bytes: u64,
    /// When something was said in it last.
    pub modified_at_ms: i64,
}

/// A conversation that goes on: what has been said, and where more is written.
#[derive(Debug)]
pub struct Conversation {
    /// What has been said.
    pub lines: Vec<Line>,
    file: File,
    size_bytes: u64,
    /// The file ends within a line.
    is_torn: bool,
}

impl AgentFiles {
    /// An agent's conversations by name, at most `limit` of them after `after`; and after which to go on.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn sessions(
        &self,
        of: Of<'_>,
        (after, limit): (Option<&SessionName>, usize),
    ) -> Result<(Vec<SessionFile>, Option<SessionName>), AgentError> {
        let Some(root) = self.root(of)? else { return Ok((Vec::new(), None)) };
        let after = after.map(|name| name.encoded() + END);
        let (entries, next) = files(&root, DIR, (after.as_ref().map(std::ffi::OsStr::new), limit))?;
        let found = entries.into_iter().filter_map(|entry| {
            let name = SessionName::of_file(entry.name.to_str()?)?;
            let (size_bytes, modified_at_ms) = (entry.metadata.size_bytes, entry.metadata.modified_at_ms);
            Some(SessionFile { name, size_bytes, modified_at_ms })
        });
        Ok((found.collect(), next.and_then(|name| SessionName::of_file(name.to_str()?))))
    }

    /// What has been said in a conversation.
    ///
    /// # Errors
    /// [`AgentError::NotFound`]; what the disk refuses.
    pub fn session(&self, of: Of<'_>, name: &SessionName) -> Result<Lines, AgentError> {
        let missing = AgentError::NotFound("session");
        let Some(root) = self.root(of)? else { return Err(missing) };
        Ok(Lines::read(&read_bytes(&root, &name.path()?)?.ok_or(missing)?))
    }

    /// Removes a conversation.
    ///
    /// # Errors
    /// [`AgentError::NotFound`]; what the disk refuses.
    pub fn remove_session(&self, of: Of<'_>, name: &SessionName) -> Result<(), AgentError> {
        let Some(root) = self.root(of)? else { return Err(AgentError::NotFound("session")) };
        match root.remove_file(&name.path()?) {
            Err(PathError::NotFound) => Err(AgentError::NotFound("session")),
            removed => Ok(removed?),
        }
    }

    /// Goes on with a conversation, or begins it.
    ///
    /// # Errors
    /// [`AgentError::Full`] where it is too long; what the disk refuses.
    pub fn converse(&self, of: Of<'_>, name: &SessionName) -> Result<Conversation, AgentError> {
        let path = name.path()?;
        self.write(of, |root| {
            root.create_dir_all(&plain(DIR)?)?;
            let file = root.append(&path)?;
            let mut bytes = Vec::new();
            root.read(&path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(PathError::Io)?;
            let size_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let is_torn = bytes.last().is_some_and(|last| *last != b'\n');
            let conversation = Conversation { lines: Lines::read(&bytes).lines, file, size_bytes, is_torn };
            conversation.check_room(TURN_BYTES)?;
            Ok(conversation)
        })
    }
}

impl Conversation {
    /// Adds lines: each whole, or not at all.
    ///
    /// # Errors
    /// [`AgentError::Full`] where it would be too long; what the disk refuses.
    pub fn add(&mut self, lines: &[Line]) -> Result<(), AgentError> {
        let mut bytes = Vec::new();
        if self.is_torn {
            bytes.push(b'\n');
        }
        for line in lines {
            serde_json::to_writer(&mut bytes, line).map_err(|err| PathError::Io(err.into()))?;
            bytes.push(b'\n');
        }
        self.check_room(u64::try_from(bytes.len()).unwrap_or(u64::MAX))?;
        // What fails half way is a torn line, which the next one stands apart from.
        self.is_torn = true;
        self.file.write_all(&bytes).map_err(of_io)?;
        self.is_torn = false;
        self.size_bytes = self.size_bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// Has what was added survive a loss of power.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn keep(&self) -> Result<(), AgentError> {
        Ok(self.file.sync_data().map_err(of_io)?)
    }

    fn check_room(&self, more: u64) -> Result<(), AgentError> {
        if self.size_bytes.saturating_add(more) > MAX_BYTES {
            return Err(AgentError::Full("The session is full: begin another, or remove it."));
        }
        Ok(())
    }
}

fn of_io(err: std::io::Error) -> PathError {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    if matches!(err.kind(), StorageFull | QuotaExceeded | FileTooLarge) {
        PathError::NoSpace
    } else {
        PathError::Io(err)
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::tests::{named, open};
    use super::super::line::Role;
    use super::super::line::tests::line;
    use super::*;

    fn name(text: &str) -> SessionName {
        text.parse().unwrap()
    }

    /// P-01
    #[test]
    fn a_name_is_found_again_and_leads_nowhere_else() {
        for text in
            ["a", "slack:T024:U061", "ann@example.org", "..", "a/b", "../../../x", "%2e", "grüße 1", "CON", "x.", "."]
        {
            let file = format!("{}{END}", name(text).encoded());
            assert_eq!(SessionName::of_file(&file), Some(name(text)), "{text}");
            assert_eq!(name(text).path().unwrap().components().count(), 2, "{text}");
        }
        for bad in ["", "a\nb", "a\0", "x".repeat(129).as_str(), "ä".repeat(60).as_str()] {
            assert!(bad.parse::<SessionName>().is_err(), "{bad}");
        }
        for other in ["a", ".jsonl", "%zz.jsonl", "%6.jsonl", "%61.jsonl", "ä.jsonl"] {
            assert_eq!(SessionName::of_file(other), None, "{other}");
        }
    }

    #[test]
    fn a_session_goes_on_behind_a_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let files = open(dir.path());
        let (acme, helper) = named("acme", "helper");
        let of = Of(&acme, &helper);
        let mut first = files.converse(of, &name("s")).unwrap();
        first.add(&[line("1", Role::User, "hello"), line("1", Role::Assistant, "hi")]).unwrap();
        first.keep().unwrap();
        let path = dir.path().join("tenants/acme/agents/helper/sessions/s.jsonl");
        let mut written = std::fs::read(&path).unwrap();
        written.extend(b"{\"at\":\"2026");
        std::fs::write(&path, written).unwrap();
        let mut second = files.converse(of, &name("s")).unwrap();
        assert_eq!(second.lines.len(), 2);
        second.add(&[line("2", Role::User, "again")]).unwrap();
        let read = files.session(of, &name("s")).unwrap();
        assert_eq!((read.lines.len(), read.unreadable), (3, 1));
        assert_eq!(read.lines[2].content, "again");
    }

    #[test]
    fn a_session_is_bounded_listed_in_pages_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let files = open(dir.path());
        let (acme, helper) = named("acme", "helper");
        let of = Of(&acme, &helper);
        for text in ["b", "a", "c/d"] {
            files.converse(of, &name(text)).unwrap().add(&[line("1", Role::User, text)]).unwrap();
        }
        let (page, next) = files.sessions(of, (None, 2)).unwrap();
        assert_eq!(page.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let (page, next) = files.sessions(of, (next.as_ref(), 2)).unwrap();
        assert_eq!((page[0].name.as_str(), page.len(), next), ("c/d", 1, None));
        let mut long = files.converse(of, &name("long")).unwrap();
        let big = line("1", Role::User, &"x".repeat(5 << 20));
        long.add(std::slice::from_ref(&big)).unwrap();
        assert!(matches!(long.add(&[big]), Err(AgentError::Full(_))));
        long.add(&[line("1", Role::Assistant, "still here")]).unwrap();
        assert_eq!(files.session(of, &name("long")).unwrap().unreadable, 0);
        files.remove_session(of, &name("c/d")).unwrap();
        assert!(matches!(files.session(of, &name("c/d")), Err(AgentError::NotFound(_))));
        assert!(matches!(files.remove_session(of, &name("c/d")), Err(AgentError::NotFound(_))));
    }
}
