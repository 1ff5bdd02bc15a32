//! [`Recorder`]: a recording in the format of asciicast v2 (<https://docs.asciinema.org/manual/asciicast/v2/>), which
//! `asciinema play` takes.
//!
//! Every call blocks on the disk. What could not be written whole is taken back, so that the file ends with a whole line. Must never
//! write what was typed where the terminal did not show it: that is for the caller to ask.

use std::fs::File;
use std::io::{self, Write};
use std::time::Duration;

use openclawmu_sandbox::{PathError, RelPath, Root};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{Reason, Size, TerminalError};

/// The marker at the end of a recording that is as long as one may be.
const FULL: &str = "the recording is as long as one may be";

/// A recording that is being written.
#[derive(Debug)]
pub(crate) struct Recorder {
    file: File,
    hash: Sha256,
    written: u64,
    most: u64,
    shown: Characters,
    typed: Characters,
    /// Nothing can be written any more.
    over: Option<Reason>,
}

/// What a recording is of.
#[derive(Clone, Debug)]
pub(crate) struct Heading {
    /// Seconds since 1970.
    pub(crate) began_at: i64,
    pub(crate) size: Size,
    pub(crate) shell: String,
}

/// A recording that is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// In hexadecimal digits.
    pub(crate) sha256: String,
    pub(crate) bytes: u64,
}

/// Something to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The terminal shows it.
    Output(Vec<u8>),
    /// It was typed.
    Input(Vec<u8>),
    /// The terminal has another size.
    Resize(Size),
}

impl Recorder {
    /// Makes the file, which must not be there, and writes the heading.
    ///
    /// # Errors
    /// [`TerminalError::Taken`], [`TerminalError::Recording`].
    pub(crate) fn create(root: &Root, path: &RelPath, heading: &Heading, most: u64) -> Result<Self, TerminalError> {
        if let Err(err) = root.create_new(path, b"") {
            let taken = matches!(err, PathError::Conflict);
            return Err(if taken { TerminalError::Taken } else { TerminalError::Recording(err) });
        }
        let begun = root.append(path).and_then(|file| Self::begin(file, heading, most).map_err(PathError::Io));
        begun.map_err(|err| {
            if let Err(err) = root.remove_file(path) {
                tracing::warn!(%err, "a recording that could not be begun stays");
            }
            TerminalError::Recording(err)
        })
    }

    fn begin(file: File, heading: &Heading, most: u64) -> io::Result<Self> {
        let hash = Sha256::new();
        let (shown, typed) = (Characters::default(), Characters::default());
        let mut recorder = Self { file, hash, written: 0, most, shown, typed, over: None };
        let Heading { began_at, size, shell } = heading;
        let line = json!({
            "version": 2,
            "width": size.cols(),
            "height": size.rows(),
            "timestamp": began_at,
            "env": { "SHELL": shell, "TERM": "xterm-256color" },
        });
        recorder.put(&format!("{line}\n"))?;
        Ok(recorder)
    }

    /// Writes what happened at `at` after the beginning.
    ///
    /// # Errors
    /// [`Reason::RecordingFull`], [`Reason::RecordingFailed`], and the same again for whatever comes later.
    pub(crate) fn write(&mut self, at: Duration, entry: &Entry) -> Result<(), Reason> {
        let (code, text) = match entry {
            Entry::Output(bytes) => ("o", self.shown.push(bytes)),
            Entry::Input(bytes) => ("i", self.typed.push(bytes)),
            Entry::Resize(size) => ("r", format!("{}x{}", size.cols(), size.rows())),
        };
        if let Some(reason) = self.over {
            return Err(reason);
        }
        if text.is_empty() {
            return Ok(());
        }
        let line = line(at, code, &text);
        let full = self.written.saturating_add(u64::try_from(line.len()).unwrap_or(u64::MAX)) > self.most;
        let put = if full { self.put(&self::line(at, "m", FULL)) } else { self.put(&line) };
        let over = match put {
            Err(err) => {
                tracing::error!(%err, "a terminal can't be recorded any more");
                Some(Reason::RecordingFailed)
            }
            Ok(()) => full.then_some(Reason::RecordingFull),
        };
        self.over = over;
        over.map_or(Ok(()), Err)
    }

    /// Writes what is left, and waits until all of it is on the disk.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn finish(&mut self, at: Duration) -> io::Result<Recorded> {
        for (code, text) in [("o", self.shown.rest()), ("i", self.typed.rest())] {
            if self.over.is_none() && !text.is_empty() {
                self.put(&line(at, code, &text))?;
            }
        }
        self.file.sync_all()?;
        let digest = self.hash.clone().finalize();
        let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Recorded { sha256, bytes: self.written })
    }

    /// A whole line, or nothing.
    fn put(&mut self, line: &str) -> io::Result<()> {
        if let Err(err) = self.file.write_all(line.as_bytes()) {
            self.file.set_len(self.written)?;
            return Err(err);
        }
        self.hash.update(line.as_bytes());
        self.written = self.written.saturating_add(u64::try_from(line.len()).unwrap_or(u64::MAX));
        Ok(())
    }
}

fn line(at: Duration, code: &str, text: &str) -> String {
    format!("[{}.{:06},{},{}]\n", at.as_secs(), at.subsec_micros(), json!(code), json!(text))
}

/// Bytes as text: a character that was cut in two waits for its rest, what is none becomes U+FFFD.
#[derive(Debug, Default)]
struct Characters(Vec<u8>);

impl Characters {
    fn push(&mut self, bytes: &[u8]) -> String {
        self.0.extend_from_slice(bytes);
        let mut text = String::new();
        let mut rest = self.0.as_slice();
        let cut = loop {
            match std::str::from_utf8(rest) {
                Ok(good) => {
                    text.push_str(good);
                    break Vec::new();
                }
                Err(err) => {
                    let (good, bad) = rest.split_at_checked(err.valid_up_to()).unwrap_or_default();
                    text.push_str(&String::from_utf8_lossy(good));
                    let Some(length) = err.error_len() else { break bad.to_vec() };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = bad.get(length..).unwrap_or_default();
                }
            }
        };
        self.0 = cut;
        text
    }

    fn rest(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.0)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt;

    fn heading() -> Heading {
        Heading { began_at: 1_700_000_000, size: Size::default(), shell: "bash -l".into() }
    }

    fn recorder(dir: &std::path::Path, most: u64) -> Result<Recorder, TerminalError> {
        Recorder::create(&Root::open(dir).unwrap(), &RelPath::parse(b"s.cast").unwrap(), &heading(), most)
    }

    const GOLDEN: &str = concat!(
        "{\"version\":2,\"width\":80,\"height\":24,\"timestamp\":1700000000,",
        "\"env\":{\"SHELL\":\"bash -l\",\"TERM\":\"xterm-256color\"}}\n",
        "[0.000000,\"o\",\"\\u001b[1mhé\\r\\n\"]\n",
        "[1.000250,\"r\",\"100x30\"]\n",
        "[1.500000,\"o\",\"€ \u{fffd}.\"]\n",
        "[2.000000,\"i\",\"x\\r\"]\n",
        "[61.000000,\"o\",\"\u{fffd}\"]\n",
    );

    /// T-07: the format, to the byte.
    #[test]
    fn a_recording_is_asciicast_v2_of_its_owners_alone_with_its_digest() {
        let dir = tempfile::tempdir().unwrap();
        let mut recorder = recorder(dir.path(), 10_000).unwrap();
        let mut write = |ms: u64, us: u64, entry| {
            recorder.write(Duration::from_millis(ms) + Duration::from_micros(us), &entry).unwrap();
        };
        write(0, 0, Entry::Output("\x1b[1mhé\r\n".into()));
        write(1000, 250, Entry::Resize(Size::new(100, 30)));
        write(1400, 0, Entry::Output(b"\xe2\x82".to_vec()));
        write(1500, 0, Entry::Output(b"\xac \xff.".to_vec()));
        write(2000, 0, Entry::Input(b"x\r".to_vec()));
        write(3000, 0, Entry::Output(b"\xf0\x9f".to_vec()));
        let recorded = recorder.finish(Duration::from_secs(61)).unwrap();
        let path = dir.path().join("s.cast");
        let file = std::fs::read_to_string(&path).unwrap();
        assert_eq!(file, GOLDEN);
        let digest: String = Sha256::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(recorded, Recorded { sha256: digest, bytes: file.len() as u64 });
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    /// T-07.
    #[test]
    fn a_recording_of_that_name_is_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        recorder(dir.path(), 10_000).unwrap();
        assert!(matches!(recorder(dir.path(), 10_000), Err(TerminalError::Taken)));
    }

    /// T-07.
    #[test]
    fn a_recording_that_is_full_says_so_and_takes_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let mut recorder = recorder(dir.path(), 200).unwrap();
        let piece = Entry::Output(vec![b'x'; 40]);
        let at = Duration::ZERO;
        recorder.write(at, &piece).unwrap();
        assert_eq!(recorder.write(at, &piece), Err(Reason::RecordingFull));
        assert_eq!(recorder.write(at, &Entry::Output(b"y".to_vec())), Err(Reason::RecordingFull));
        let recorded = recorder.finish(at).unwrap();
        let file = std::fs::read_to_string(dir.path().join("s.cast")).unwrap();
        assert_eq!(file.lines().last(), Some(r#"[0.000000,"m","the recording is as long as one may be"]"#));
        assert_eq!((recorded.bytes, file.lines().count()), (file.len() as u64, 3));
    }

    proptest! {
        #[test]
        fn text_is_the_same_however_it_was_cut(text in "\\PC{0,40}", cuts in proptest::collection::vec(0_usize..160, 0..8)) {
            let mut characters = Characters::default();
            let (mut all, mut from) = (String::new(), 0);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            cuts.push(text.len());
            for cut in cuts {
                all.push_str(&characters.push(&text.as_bytes()[from..cut]));
                from = cut;
            }
            prop_assert_eq!(all, text);
            prop_assert_eq!(characters.rest(), "");
        }

        #[test]
        fn no_bytes_are_kept_for_long(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut characters = Characters::default();
            let mut all = String::new();
            for byte in &bytes {
                all.push_str(&characters.push(&[*byte]));
                prop_assert!(characters.0.len() < 4);
            }
            all.push_str(&characters.rest());
            prop_assert_eq!(all, String::from_utf8_lossy(&bytes));
        }
    }
}
