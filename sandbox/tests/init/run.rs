//! One command under the helper, and what came of it.

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use tempfile::TempDir;

/// The helper as a file, for the whole test program.
static HELPER: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let path = dir.path().join("init");
    fs::write(&path, openclawmu_sandbox::HELPER).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    (dir, path)
});

pub(crate) fn helper() -> String {
    HELPER.1.to_str().unwrap().to_owned()
}

/// A command, the helper's own options before it, and bubblewrap's before those.
#[derive(Default)]
pub(crate) struct Run {
    pub(crate) bwrap: Vec<String>,
    pub(crate) options: Vec<String>,
    pub(crate) command: Vec<String>,
    pub(crate) without_helper: bool,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    /// Both of the command's streams.
    pub(crate) output: String,
    /// The helper's report, line by line.
    pub(crate) report: Vec<String>,
}

pub(crate) fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

impl Run {
    pub(crate) fn shell(script: &str) -> Self {
        Self { command: vec!["sh".into(), "-c".into(), script.into()], ..Self::default() }
    }

    /// The report comes back as standard output and as descriptor 3 inside; descriptor 9 and the ignored
    /// signals stand for what a launcher forgot.
    pub(crate) fn launch(&self) -> Command {
        let mut launch = Command::new("sh");
        launch.args(["-c", "exec 3>&1 1>&2 9</etc/passwd; trap '' HUP INT; exec bwrap \"$@\"", "sh"]);
        launch.args(words("--ro-bind / / --dev /dev --proc /proc --unshare-pid --die-with-parent --as-pid-1"));
        launch.args(&self.bwrap).arg("--");
        if !self.without_helper {
            launch.arg(helper()).args(["--status-fd", "3"]).args(&self.options).arg("--");
        }
        launch.args(&self.command);
        launch.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        launch
    }

    pub(crate) fn run(&self) -> Ran {
        let mut child = self.launch().spawn().unwrap();
        let mut output = String::new();
        child.stderr.take().unwrap().read_to_string(&mut output).unwrap();
        let mut report = String::new();
        child.stdout.take().unwrap().read_to_string(&mut report).unwrap();
        let code = child.wait().unwrap().code().expect("bwrap itself is not killed");
        Ran { code, output, report: report.lines().map(str::to_owned).collect() }
    }
}

impl Ran {
    pub(crate) fn last(&self) -> &str {
        self.report.last().map_or("", String::as_str)
    }
}
