//! The data directory: can it be written, is there room.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::process::geteuid;

use super::Finding;

/// Least free space that is not worth a word, in bytes.
const LOW_SPACE_BYTES: u64 = 1 << 30;
/// Less free space than this is soon none.
const NO_SPACE_BYTES: u64 = 16 << 20;
/// Least free inodes that are not worth a word.
const LOW_INODES: u64 = 10_000;

/// Looks at it.
pub(super) fn look(dir: &Path) -> Vec<Finding> {
    let existing =
        dir.ancestors().find(|dir| !dir.as_os_str().is_empty() && dir.exists()).unwrap_or_else(|| Path::new("."));
    if dir.exists() {
        return vec![written(dir), private(dir), space(existing)];
    }
    vec![Finding::ok("data.dir", format!("{} will be created by the first start", dir.display())), space(existing)]
}

fn written(dir: &Path) -> Finding {
    let probe = dir.join(".doctor");
    let created = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&probe);
    let written = created.and_then(|mut file| file.write_all(b"x").and_then(|()| file.sync_all()));
    let removed = std::fs::remove_file(&probe);
    match written.and(removed) {
        Ok(()) => Finding::ok("data.dir", format!("{} can be written and synced", dir.display())),
        Err(err) if err.kind() == std::io::ErrorKind::StorageFull => {
            Finding::fail("data.dir", format!("{}: {err}", dir.display()), "free some space: paid requests are refused")
        }
        Err(err) => Finding::fail(
            "data.dir",
            format!("{}: {err}", dir.display()),
            "give it to the user that runs the gateway, and run doctor as that user",
        ),
    }
}

fn private(dir: &Path) -> Finding {
    match std::fs::metadata(dir) {
        Ok(meta) if meta.mode() & 0o077 != 0 => Finding::warn(
            "data.mode",
            format!("{} can be entered by others (mode {:o})", dir.display(), meta.mode() & 0o777),
            format!("chmod 700 {}", dir.display()),
        ),
        Ok(meta) if meta.uid() != geteuid().as_raw() => Finding::warn(
            "data.mode",
            format!("{} belongs to user {}, and you are {}", dir.display(), meta.uid(), geteuid().as_raw()),
            "run doctor as the user that runs the gateway: what it finds holds for that user alone",
        ),
        Ok(_) => Finding::ok("data.mode", "nobody else can enter it"),
        Err(err) => Finding::warn("data.mode", format!("{}: {err}", dir.display()), "look at its permissions"),
    }
}

fn space(dir: &Path) -> Finding {
    let stat = match rustix::fs::statvfs(dir) {
        Ok(stat) => stat,
        Err(err) => return Finding::warn("disk", format!("free space can't be told: {err}"), "look at it with df"),
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let seen = format!("{} MiB and {} inodes are free", free >> 20, stat.f_favail);
    // File systems without a fixed number of inodes say that they have none at all.
    let few_inodes = stat.f_files > 0 && stat.f_favail < LOW_INODES;
    let hint = "a full disk refuses paid requests; free some space, or move the data directory";
    if free < NO_SPACE_BYTES {
        Finding::fail("disk", seen, hint)
    } else if free < LOW_SPACE_BYTES || few_inodes {
        Finding::warn("disk", seen, hint)
    } else {
        Finding::ok("disk", seen)
    }
}
