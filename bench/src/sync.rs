//! Somebody else on the same disk: a process that writes and syncs without pause, as a database beside the gateway does.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::child::Process;

const BLOCK_BYTES: usize = 256 * 1024;
/// Blocks of the file, which is written over and over.
const BLOCKS: u64 = 256;
/// Longer than any scenario: it ends with the scenario, or else by itself.
const LIMIT: Duration = Duration::from_secs(1_800);

/// What is written to.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// A file that is made.
    file: PathBuf,
}

/// Starts it, on a file of its own in `directory`; it ends when what is returned goes.
pub(crate) fn start(directory: &Path) -> Result<Process> {
    let file = directory.join("synced");
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("sync").arg(&file);
    let mut process = Process::start("sync", &command, directory)?;
    process.wait_for("its first sync", || Ok(file.metadata().is_ok_and(|file| file.len() > 0)))?;
    Ok(process)
}

/// Writes and syncs, block after block.
pub(crate) fn run(options: &Options) -> Result<()> {
    let file = File::create(&options.file).with_context(|| format!("making {}", options.file.display()))?;
    let started = Instant::now();
    let mut block = vec![0_u8; BLOCK_BYTES];
    for number in 0_u64.. {
        ensure!(started.elapsed() < LIMIT, "nobody ended it");
        block.fill(u8::try_from(number % 251)?);
        file.write_all_at(&block, number % BLOCKS * u64::try_from(BLOCK_BYTES)?)?;
        file.sync_all()?;
    }
    Ok(())
}
