//! The database: does it open, is it whole, which schema has it.

use std::path::Path;
use std::time::Duration;

use openclawmu_store::{Checkup, check_up};

use super::Finding;

/// Longest time that the look for faults may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// A log that is this long is not being emptied, in bytes.
const LONG_WAL_BYTES: u64 = 1 << 30;

/// Looks at it.
pub(super) async fn look(dir: &Path) -> Vec<Finding> {
    let dir = dir.to_owned();
    let looked = tokio::task::spawn_blocking(move || check_up(&dir, PATIENCE)).await;
    let restore = "restore the last backup, or look at it with sqlite3 on a copy";
    match looked {
        Ok(Ok(None)) => vec![Finding::ok("database", "there is none yet; the first start makes it")],
        Ok(Ok(Some(checkup))) => vec![whole(&checkup), schema(&checkup), log(&checkup)],
        Ok(Err(err)) => vec![Finding::fail("database", err.to_string(), restore)],
        Err(err) => vec![Finding::fail("database", err.to_string(), restore)],
    }
}

fn whole(checkup: &Checkup) -> Finding {
    match &checkup.faults {
        Some(faults) if faults.is_empty() => Finding::ok("database", "quick_check finds no fault"),
        Some(faults) => Finding::fail(
            "database",
            format!("quick_check: {}", faults.join("; ")),
            "stop the gateway, keep a copy of the data directory, and restore the last backup",
        ),
        None => Finding::warn(
            "database",
            format!("quick_check was not done within {} s", PATIENCE.as_secs()),
            "it is large: run `PRAGMA quick_check` on a copy",
        ),
    }
}

fn schema(checkup: &Checkup) -> Finding {
    let Checkup { schema, newest, .. } = *checkup;
    if schema > newest {
        return Finding::fail(
            "database.schema",
            format!("version {schema} is of a newer program than this one, which knows {newest}"),
            "run the newer program, or restore a backup from before the upgrade",
        );
    }
    let then = if schema < newest { format!("; the next start brings it to {newest}") } else { String::new() };
    Finding::ok("database.schema", format!("version {schema}{then}"))
}

fn log(checkup: &Checkup) -> Finding {
    if !checkup.wal {
        let hint =
            "the next start sets it; if it does not stay, the file system has no shared memory: use a local disk";
        return Finding::warn("database.wal", "the database is not in WAL mode", hint);
    }
    let mib = checkup.wal_bytes >> 20;
    if checkup.wal_bytes > LONG_WAL_BYTES {
        let hint = "a reader that never ends keeps it: stop other programs that have the database open";
        return Finding::warn("database.wal", format!("the log has {mib} MiB"), hint);
    }
    Finding::ok("database.wal", format!("WAL mode, {mib} MiB of log"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn what_is_wrong_with_a_database_is_told_apart() {
        let good = Checkup { schema: 3, newest: 3, wal: true, wal_bytes: 0, faults: Some(Vec::new()) };
        let states = |checkup: &Checkup| [whole(checkup), schema(checkup), log(checkup)].map(|finding| finding.state);
        assert_eq!(states(&good), [State::Ok; 3]);
        assert_eq!(states(&Checkup { schema: 2, ..good.clone() }), [State::Ok; 3]);
        assert_eq!(states(&Checkup { schema: 4, ..good.clone() })[1], State::Fail);
        assert_eq!(states(&Checkup { wal: false, ..good.clone() })[2], State::Warn);
        assert_eq!(states(&Checkup { wal_bytes: 2 << 30, ..good.clone() })[2], State::Warn);
        assert_eq!(states(&Checkup { faults: None, ..good.clone() })[0], State::Warn);
        assert_eq!(states(&Checkup { faults: Some(vec!["row 1".to_owned()]), ..good })[0], State::Fail);
    }
}
