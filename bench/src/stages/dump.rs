//! Callgrind's dumps in one file, as far as they are needed: which function's entry asked for each, and what each thread had
//! executed since the one before. Never a whole call graph: `callgrind_annotate` reads those.

use std::io::{BufRead, Read, Seek, SeekFrom};
use std::ops::Range;

use anyhow::{Context as _, Result, bail, ensure};

/// A function whose entry is a mark in the life of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// The head was read.
    Head,
    /// A stage begins.
    Stage,
    /// All is done.
    Finish,
}

impl Mark {
    /// All of them, with what Callgrind is to look for.
    pub(crate) const PATTERNS: [(Self, &'static str); 3] = [
        (Self::Head, "openclawmu_proxy::edge::head_seen*"),
        (Self::Stage, "openclawmu_proxy::observe::notes::Notes::stage*"),
        (Self::Finish, "openclawmu_proxy::context::Context::finish*"),
    ];

    /// The mark whose entry caused a dump, by the dump's description.
    fn of_trigger(description: &str) -> Option<Self> {
        let named = |pattern: &str| description.contains(pattern.trim_end_matches('*'));
        Self::PATTERNS.into_iter().find(|(_, pattern)| named(pattern)).map(|(mark, _)| mark)
    }
}

/// What one thread executed between two marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Which dump it belongs to.
    pub(crate) number: u64,
    /// Callgrind's number of the thread.
    pub(crate) thread: u32,
    /// The mark that ends it.
    pub(crate) mark: Option<Mark>,
    /// Instructions.
    pub(crate) instructions: u64,
    /// Whether this thread entered a mark before it.
    pub(crate) is_marked: bool,
    /// Where its lines stand in the file.
    pub(crate) bytes: Range<u64>,
}

/// Reads every part that is whole.
pub(crate) fn read(mut file: impl BufRead) -> Result<Vec<Part>> {
    let (mut parts, mut open, mut at, mut line) = (Vec::new(), None::<Part>, 0_u64, Vec::new());
    loop {
        line.clear();
        let read = file.read_until(b'\n', &mut line).context("reading Callgrind's dumps")?;
        if read == 0 {
            return Ok(parts);
        }
        let end = at + u64::try_from(read)?;
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if let Some(number) = text.strip_prefix("part: ") {
            let (thread, mark, bytes) = (1, None, at..end);
            open = Some(Part { number: number.parse()?, thread, mark, instructions: 0, is_marked: false, bytes });
        } else if let Some(part) = &mut open {
            part.bytes.end = end;
            if let Some(thread) = text.strip_prefix("thread: ") {
                part.thread = thread.parse()?;
            } else if let Some(trigger) = text.strip_prefix("desc: Trigger: ") {
                part.mark = Mark::of_trigger(trigger);
            } else if let Some(total) = text.strip_prefix("totals: ") {
                part.instructions = total.parse()?;
                parts.extend(open.take());
            } else if text.starts_with("fn=") {
                part.is_marked |= Mark::of_trigger(text).is_some();
            }
        }
        at = end;
    }
}

/// The thread that serves requests, of a gateway that has one: the only one that enters marks.
pub(crate) fn serving(parts: &[Part]) -> Result<u32> {
    let mut threads: Vec<u32> = parts.iter().filter(|part| part.is_marked).map(|part| part.thread).collect();
    threads.dedup();
    threads.sort_unstable();
    threads.dedup();
    match threads.as_slice() {
        [one] => Ok(*one),
        [] => bail!("no request was seen: were the marked functions inlined?"),
        several => bail!("requests ran on threads {several:?}; one was meant to serve them all"),
    }
}

/// The lines of `ranges`, one dump behind the other.
pub(crate) fn merged(mut file: impl Read + Seek, ranges: &[Range<u64>]) -> Result<Vec<u8>> {
    let mut all = b"version: 1\ncreator: openclawmu-bench\n".to_vec();
    for range in ranges {
        file.seek(SeekFrom::Start(range.start))?;
        let length = range.end - range.start;
        let read = file.by_ref().take(length).read_to_end(&mut all)?;
        ensure!(u64::try_from(read)? == length, "Callgrind's file became shorter");
    }
    Ok(all)
}
