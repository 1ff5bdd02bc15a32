//! The machine's clock as the gateway sees it, moved by libfaketime: the product itself knows of no test clock.

use std::path::{Path, PathBuf};

/// Turns the clock of one gateway process tree.
#[derive(Debug, Clone)]
pub struct FakeClock {
    file: PathBuf,
    library: PathBuf,
}

impl FakeClock {
    /// A clock that shows the real time until it is set; its state is a file in `dir`.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        let clock = Self { file: dir.join("faketime.rc"), library: library() };
        clock.write("+0");
        clock
    }

    /// Shifts the clock by this many seconds from the real time.
    pub fn shift(&self, seconds: i64) {
        self.write(&format!("{seconds:+}"));
    }

    /// Environment of a process under this clock.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        vec![
            ("LD_PRELOAD".into(), path(&self.library)),
            ("FAKETIME_TIMESTAMP_FILE".into(), path(&self.file)),
            ("FAKETIME_NO_CACHE".into(), "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC".into(), "1".into()),
        ]
    }

    /// Replaces the file in one step, so that the process never reads half of it.
    fn write(&self, text: &str) {
        let next = self.file.with_extension("next");
        std::fs::write(&next, text).expect("a writable temp dir");
        std::fs::rename(&next, &self.file).expect("a writable temp dir");
    }
}

fn library() -> PathBuf {
    let machine = std::env::consts::ARCH;
    let places = [
        format!("/usr/lib/{machine}-linux-gnu/faketime/libfaketimeMT.so.1"),
        "/usr/lib64/faketime/libfaketimeMT.so.1".to_owned(),
        "/usr/lib/faketime/libfaketimeMT.so.1".to_owned(),
    ];
    places.iter().map(PathBuf::from).find(|path| path.exists()).expect(
        "libfaketime is missing: install the system package `faketime` (Debian, Ubuntu) or `libfaketime` (Fedora)",
    )
}
