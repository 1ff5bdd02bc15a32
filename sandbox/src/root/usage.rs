//! What a directory takes of the disk.

use rustix::fs::{FileType, Stat};

use super::Root;
use crate::PathError;

/// The system counts in blocks of this many bytes, whatever the file system's own are.
const BLOCK_BYTES: u64 = 512;

/// What a directory and all that is in it take of the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// What is allocated; holes in files are not.
    pub bytes: u64,
    /// How many names there are.
    pub entries: u64,
}

impl DiskUsage {
    /// More than any directory takes.
    pub const MAX: Self = Self { bytes: u64::MAX, entries: u64::MAX };

    fn is_over(self, most: Self) -> bool {
        self.bytes > most.bytes || self.entries > most.entries
    }
}

impl Root {
    /// Adds up what is in the directory, until it is more than `most` in one of both. What changes meanwhile is counted as it
    /// is met.
    ///
    /// # Errors
    /// [`PathError::NoSpace`] if it is more; those of [`Root::walk`].
    pub fn disk_usage(&self, most: DiskUsage) -> Result<DiskUsage, PathError> {
        let mut sum = DiskUsage::default();
        self.walk(&mut |walked| {
            sum.bytes = sum.bytes.saturating_add(walked.allocated_bytes);
            sum.entries += 1;
            if sum.is_over(most) { Err(PathError::NoSpace) } else { Ok(()) }
        })?;
        Ok(sum)
    }
}

/// What one name takes. A file with several names is counted once for all of them.
#[allow(
    clippy::useless_conversion,
    clippy::unnecessary_fallible_conversions,
    reason = "the width of these fields differs between systems"
)]
pub(super) fn allocated_bytes(stat: &Stat) -> u64 {
    let bytes = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(BLOCK_BYTES);
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if is_file { bytes / u64::try_from(stat.st_nlink).unwrap_or(1).max(1) } else { bytes }
}
