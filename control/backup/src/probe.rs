//! Whether a place does what backups need of it: a file is written, listed, read and removed again.

use crate::digest;
use crate::error::{BackupError, Result};
use crate::layout;
use crate::place::Place;

/// No probe is larger, in bytes.
const MAX_BYTES: u64 = 64;

impl Place {
    /// Writes, lists, reads and removes a file of its own. Nothing that lies there is touched, and nothing is left.
    ///
    /// # Errors
    /// [`BackupError::Place`] for the first step that fails, [`BackupError::Damaged`] where what is read is not what was
    /// written.
    pub async fn probe(&self) -> Result<()> {
        let mut bytes = [0_u8; 16];
        getrandom::fill(&mut bytes)
            .map_err(|err| BackupError::Key(format!("the system gives no random bytes: {err}")))?;
        let (name, folder) = (digest::hex(&bytes), layout::probe(""));
        let key = layout::probe(&name);
        self.put(&key, name.clone().into_bytes()).await?;
        let seen = self.seen(&key, &folder, name.as_bytes()).await;
        // Also where it could not be read, so that nothing is left of it.
        let removed = self.remove(&key).await;
        seen.and(removed)?;
        match self.get(&key, MAX_BYTES).await? {
            None => Ok(()),
            Some(_) => Err(BackupError::Damaged(format!("{key} is still there after it was removed"))),
        }
    }

    async fn seen(&self, key: &str, folder: &str, bytes: &[u8]) -> Result<()> {
        if !self.list(folder).await?.iter().any(|item| item.key == key) {
            return Err(BackupError::Damaged(format!("{key} was written and is not in the list")));
        }
        match self.get(key, MAX_BYTES).await? {
            Some(found) if found == bytes => Ok(()),
            Some(_) => Err(BackupError::Damaged(format!("{key} is not what was written"))),
            None => Err(BackupError::Damaged(format!("{key} was written and is not there"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::BucketOptions;

    #[tokio::test]
    async fn a_probe_leaves_nothing_and_a_place_that_cant_be_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let place =
            |path: std::path::PathBuf| Place::parse("to", path.to_str().unwrap(), &BucketOptions::default()).unwrap();
        place(dir.path().join("new")).probe().await.unwrap();
        let left: Vec<_> = std::fs::read_dir(dir.path().join("new")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        std::fs::write(dir.path().join("file"), "").unwrap();
        let refused = place(dir.path().join("file/below")).probe().await;
        assert!(matches!(refused, Err(BackupError::Place { .. })), "{refused:?}");
    }
}
