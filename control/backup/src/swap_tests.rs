//! What a start makes of restores that a crash cut off.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use openclawmu_store::{Durability, ManualClock, StoreOptions, UnixMs};
use tempfile::TempDir;

use super::*;

fn store(dir: &Path) -> Store {
    let clock = Arc::new(ManualClock::new(UnixMs(1_790_000_000_000)));
    let takeover = Duration::ZERO;
    Store::open(&StoreOptions { dir: dir.to_owned(), clock, takeover, durability: Durability::default() }).unwrap()
}

/// A data directory with the tenant's old directory and a staged new one, with or without their having changed places.
fn scene(swapped: bool) -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let tenants = dir.path().join("tenants");
    let (old, new) = if swapped { (".restore-00-acme", "acme") } else { ("acme", ".restore-00-acme") };
    for (name, text) in [(old, "old"), (new, "new")] {
        fs::create_dir_all(tenants.join(name)).unwrap();
        fs::write(tenants.join(name).join("file"), text).unwrap();
    }
    fs::write(tenants.join(new).join(MARK), "").unwrap();
    (dir, store)
}

fn found(dir: &TempDir) -> (String, usize, usize) {
    let tenants = dir.path().join("tenants");
    let count = |path: &Path| fs::read_dir(path).unwrap().count();
    (fs::read_to_string(tenants.join("acme/file")).unwrap(), count(&tenants), count(&tenants.join("acme")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_was_cut_off_before_its_commit_leaves_the_old_directory() {
    for swapped in [false, true] {
        let (dir, store) = scene(swapped);
        recover(&store, dir.path()).await.unwrap();
        assert_eq!(found(&dir), ("old".to_owned(), 1, 1), "{swapped}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_which_nothing_was_made_yet_is_just_removed() {
    let (dir, store) = scene(false);
    fs::remove_file(dir.path().join("tenants/.restore-00-acme").join(MARK)).unwrap();
    recover(&store, dir.path()).await.unwrap();
    assert_eq!(found(&dir), ("old".to_owned(), 1, 1));
}
