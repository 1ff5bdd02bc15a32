//! Disks that are full and disks that fail, under the real binary: a small file system of its own, and a library between the
//! process and the calls that make files durable.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system in memory, unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one of this size, such as `4m`, on `at`; panics where that is not allowed.
    #[must_use]
    pub fn mount(at: &Path, size: &str) -> Self {
        std::fs::create_dir_all(at).expect("a writable temp dir");
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "tmpfs"])
            .arg(at)
            .output();
        let done = done.expect("`mount` can't be run; this test needs it");
        let why = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(
            done.status.success(),
            "this test fills a small tmpfs up and must be allowed to mount one (run it as root): {why}"
        );
        Self(at.to_owned())
    }

    /// Takes all the space that is left.
    pub fn fill(&self) {
        let mut ballast = OpenOptions::new().create(true).append(true).open(self.ballast()).expect("a file");
        let mut piece = vec![1_u8; 1 << 20];
        while !piece.is_empty() {
            if ballast.write_all(&piece).is_err() {
                piece.truncate(piece.len() / 2);
            }
        }
    }

    /// Gives it back.
    pub fn clear(&self) {
        File::create(self.ballast()).expect("a file");
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazy: a process of a failed test may still have files open.
        let _done = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// `sync.c`, built for one test.
#[derive(Debug, Clone)]
pub struct Shim {
    dir: PathBuf,
}

impl Shim {
    /// Builds the library in `dir`; panics without a C compiler, which the build of SQLite needs too.
    #[must_use]
    pub fn build(dir: &Path) -> Self {
        let shim = Self { dir: dir.to_owned() };
        let source = dir.join("sync.c");
        std::fs::write(&source, include_str!("../shim/sync.c")).expect("a writable temp dir");
        let done = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(shim.library())
            .arg(source)
            .args(["-ldl", "-lpthread"])
            .output();
        let done = done.expect("`cc` can't be run; this test needs a C compiler");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        shim
    }

    /// Environment of a process under it.
    #[must_use]
    pub fn env(&self, upstream_port: u16) -> Vec<(String, String)> {
        let text = |path: PathBuf| path.to_str().expect("UTF-8").to_owned();
        vec![
            ("LD_PRELOAD".into(), text(self.library())),
            ("OPENCLAWMU_TEST_SYNC_FAILS".into(), text(self.control())),
            ("OPENCLAWMU_TEST_SYNC_LOG".into(), text(self.log())),
            ("OPENCLAWMU_TEST_UPSTREAM_PORT".into(), upstream_port.to_string()),
        ]
    }

    /// From now on every sync of a file whose path contains `part` fails.
    pub fn fail(&self, part: &str) {
        let next = self.dir.join("next");
        std::fs::write(&next, part).expect("a writable temp dir");
        std::fs::rename(next, self.control()).expect("a writable temp dir");
    }

    /// Syncs succeed again.
    pub fn heal(&self) {
        std::fs::remove_file(self.control()).expect("it failed before");
    }

    /// What happened, in its order.
    #[must_use]
    pub fn events(&self) -> Vec<String> {
        std::fs::read_to_string(self.log()).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn library(&self) -> PathBuf {
        self.dir.join("sync.so")
    }

    fn control(&self) -> PathBuf {
        self.dir.join("fails")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("events")
    }
}
