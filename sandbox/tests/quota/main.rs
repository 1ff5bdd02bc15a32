//! What the file system itself holds a tenant to: project quotas, on a real ext4 that has them.
//!
//! Not every kernel has them. Where this one has none, which is seen by mounting one, the same test is run by a kernel of its own: User Mode
//! Linux, a program like any other. So it runs everywhere, or fails and says what is missing.
//!
//! It needs root and mkfs.ext4; and `linux.uml` and busybox (Debian: user-mode-linux, busybox-static) where the kernel has no such quotas.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

mod kernel;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use openclawmu_sandbox::{HostUid, RelPath, Root, Workspace};

/// The directory on such a file system, where this program was started again to have one.
const DIR: &str = "OPENCLAWMU_TEST_QUOTA_DIR";
const KIB: u64 = 1 << 10;

/// a tenant is held by the file system, to the block, and its neighbour is not; renames, a restore and more storage follow.
#[test]
fn a_project_quota_holds_a_tenant_and_no_other() {
    let Ok(dir) = std::env::var(DIR) else {
        return kernel::again(DIR, "a_project_quota_holds_a_tenant_and_no_other");
    };
    let tenants = PathBuf::from(dir).join("tenants");
    let tenants = Root::create(&tenants).map(|root| (root, tenants)).unwrap();
    let top = Root::open(&tenants.1).unwrap();
    top.prove_quota().unwrap();
    assert_eq!(top.list(None, None, 10).unwrap().entries.len(), 0, "the proof leaves nothing");

    let (acme, rival) = (tenant(&tenants.1, "acme", 200_001), tenant(&tenants.1, "rival", 200_002));
    // What was there before counts as well.
    std::fs::create_dir(acme.0.join("old")).unwrap();
    assert_eq!(write(&acme, "old/file", 40), None);
    let mut workspace = open(&acme);
    workspace.hold(Some(100 * KIB)).unwrap();
    assert_eq!(write(&acme, "more", 40), None);
    assert_eq!(write(&acme, "most", 40), Some(libc::EDQUOT), "40 + 40 + 40 is more than 100");
    assert_eq!(write(&acme, "old/most", 40), Some(libc::EDQUOT), "nor in a directory that was there");
    assert_eq!(write(&rival, "large", 4096), None, "a neighbour has its own");
    std::fs::remove_file(acme.0.join("more")).unwrap();
    assert_eq!(write(&acme, "again", 40), None, "what is removed is free");

    // The directory above gets another name, as a restore does, and the limit goes along.
    let moved = (tenants.1.join("moved/workspace"), acme.1);
    std::fs::rename(tenants.1.join("acme"), tenants.1.join("moved")).unwrap();
    assert_eq!(write(&moved, "beyond", 40), Some(libc::EDQUOT));
    open(&moved).hold(Some(400 * KIB)).unwrap();
    assert_eq!(write(&moved, "beyond", 40), None, "it may have more now");
    open(&moved).hold(None).unwrap();
    assert_eq!(write(&moved, "far", 4096), None, "it is not held any more");
    open(&moved).hold(Some(400 * KIB)).unwrap();
    assert_eq!(write(&moved, "farther", 40), Some(libc::EDQUOT), "it has more than that already");

    // One that was made anew from a backup has no number, and gets it.
    let path = RelPath::parse(b"moved").unwrap();
    top.remove_tree(&path).unwrap();
    let acme = tenant(&tenants.1, "acme", 200_001);
    assert_eq!(write(&acme, "restored", 80), None);
    open(&acme).hold(Some(100 * KIB)).unwrap();
    assert_eq!(write(&acme, "beyond", 40), Some(libc::EDQUOT));
    eprintln!("the quota holds");
}

/// The proof fails where there are no quotas, and leaves nothing: then they are not relied on.
#[test]
fn without_project_quotas_the_proof_says_which_step_failed() {
    // A memory file system has none.
    let dir = tempfile::Builder::new().tempdir_in("/dev/shm").unwrap();
    let root = Root::open(dir.path()).unwrap();
    let said = root.prove_quota().unwrap_err().to_string();
    assert!(said.contains("quotactl_fd Q_SETQUOTA") || said.contains("FS_IOC_FS"), "{said}");
    assert_eq!(root.list(None, None, 10).unwrap().entries.len(), 0);
}

fn tenant(tenants: &Path, name: &str, uid: u32) -> (PathBuf, HostUid) {
    let place = (tenants.join(name).join("workspace"), HostUid::new(uid).unwrap());
    std::fs::create_dir_all(&place.0).unwrap();
    for dir in [tenants, place.0.parent().unwrap()] {
        std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    open(&place);
    place
}

fn open((path, owner): &(PathBuf, HostUid)) -> Workspace {
    Workspace::new(Root::open(path).unwrap(), *owner).unwrap()
}

/// Writes so many KiB as the tenant's own user; the error number of what the system refused.
fn write((path, owner): &(PathBuf, HostUid), name: &str, kib: u64) -> Option<i32> {
    let script = "head -c $(($2 * 1024)) /dev/zero > \"$1\" && sync \"$1\"";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, "sh", name, &kib.to_string()]).current_dir(path).env("LC_ALL", "C");
    // Whoever is in there belongs to nobody else: also what root has just made.
    std::os::unix::fs::chown(path.join(name).parent().unwrap(), Some(owner.get()), Some(owner.get())).unwrap();
    let output = command.uid(owner.get()).gid(owner.get()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return None;
    }
    assert!(said.contains("Disk quota exceeded"), "{said}");
    Some(libc::EDQUOT)
}
