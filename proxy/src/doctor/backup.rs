//! Whether the place of the backups takes a file, shows it, gives it back and lets it go.

use std::time::Duration;

use openclawmu_backup::{BackupError, BucketOptions, Place};
use openclawmu_control::backup::BackupConfig;

use super::Finding;

/// The check's name: the configuration's key.
const CHECK: &str = "backup.to";
/// Longest wait for one request: whoever waits here is a person.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest wait for all of them.
const ALTOGETHER: Duration = Duration::from_secs(20);

/// Looks at it, where there is one.
pub(super) async fn look(config: &BackupConfig) -> Finding {
    let Some(to) = &config.to else {
        return Finding::ok(CHECK, "no place is configured: backups go where a command says");
    };
    let hasty = BucketOptions { timeout: config.bucket.timeout.min(PATIENCE), retries: 0, ..config.bucket.clone() };
    let probed = async { Place::parse(CHECK, to.name(), &hasty)?.probe().await };
    match tokio::time::timeout(ALTOGETHER, probed).await {
        Ok(Ok(())) => Finding::ok(CHECK, format!("{}: a file was written, listed, read and removed again", to.name())),
        Ok(Err(err)) => judge(err),
        Err(_) => Finding::fail(
            CHECK,
            format!("{} does not answer within {} s", to.name(), ALTOGETHER.as_secs()),
            "is the service up and reachable? see backup.endpoint",
        ),
    }
}

fn judge(err: BackupError) -> Finding {
    if let BackupError::Place { place, action, cause, hint } = err {
        return Finding::fail(CHECK, format!("{place} {action}: {cause}"), hint);
    }
    let hint = "the place does not do what backups need of it: choose another in backup.to";
    Finding::fail(CHECK, err.to_string(), hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[tokio::test]
    async fn a_directory_is_tried_and_none_is_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let look_at = |below: &str| {
            let path = dir.path().join(below);
            let to = Place::parse(CHECK, path.to_str().unwrap(), &BucketOptions::default()).unwrap();
            async move { look(&BackupConfig { to: Some(to), ..BackupConfig::default() }).await }
        };
        assert_eq!(look(&BackupConfig::default()).await.state, State::Ok);
        assert_eq!(look_at("backups").await.state, State::Ok);
        let refused = look_at("file/backups").await;
        assert!(refused.state == State::Fail && refused.hint.is_some(), "{refused:?}");
    }
}
