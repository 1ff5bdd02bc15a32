//! A real container engine for tests, started by them and gone with them, whatever becomes of the test program: a shell stands
//! between, which ends the engine as soon as the program's end of a pipe is closed. It needs root, dockerd, containerd, runc and busybox.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bollard::query_parameters::CreateImageOptionsBuilder;
use bollard::{API_DEFAULT_VERSION, Docker as Client, body_full};
use futures_util::StreamExt;

/// The image that all tests use: busybox and nothing else.
pub(crate) const IMAGE: &str = "openclawmu-test:latest";

/// Until the engine answers, or for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ends the engine when the tests do, and removes all that it had.
const KEEPER: &str = r#"
dir=$1; shift
"$@" >"$dir/log" 2>&1 &
engine=$!
cat >/dev/null
kill $engine
wait $engine
grep -o " $dir/[^ ]*" /proc/self/mounts | sort -r | while read -r left; do umount -l "$left"; done
rm -rf "$dir"
"#;

/// A running engine.
#[derive(Debug)]
pub(crate) struct Engine {
    dir: PathBuf,
    /// Its standard input is what keeps the engine alive.
    _keeper: Child,
}

impl Engine {
    /// Starts one, with the image in it.
    pub(crate) async fn start() -> Self {
        // Short: sockets have room for some hundred bytes.
        let dir = tempfile::Builder::new().prefix("oce").tempdir_in("/tmp").unwrap().keep();
        fs::write(dir.join("config.json"), "{}").unwrap();
        let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh", dir.to_str().unwrap(), "dockerd"])
            .args(["--config-file", &at("config.json"), "--host", &format!("unix://{}", at("docker.sock"))])
            .args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")])
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--ip-forward=false", "--ip-masq=false"])
            .args(["--storage-driver=vfs", "--exec-opt", "native.cgroupdriver=cgroupfs"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let engine = Self { _keeper: keeper, dir };
        let client = engine.client().await;
        let mut tar = tar::Builder::new(Vec::new());
        root_file_system(&mut tar);
        let options = CreateImageOptionsBuilder::new().from_src("-").repo("openclawmu-test").tag("latest").build();
        let mut importing = client.create_image(Some(options), Some(body_full(tar.into_inner().unwrap().into())), None);
        while let Some(step) = importing.next().await {
            step.unwrap();
        }
        engine
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("docker.sock")
    }

    /// A client of its own; waits until it answers.
    pub(crate) async fn client(&self) -> Client {
        let begun = Instant::now();
        loop {
            let socket = self.socket();
            if let Ok(client) = Client::connect_with_unix(socket.to_str().unwrap(), 60, API_DEFAULT_VERSION)
                && client.ping().await.is_ok()
            {
                return client.negotiate_version().await.unwrap();
            }
            let log = || fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            assert!(begun.elapsed() < PATIENCE, "these tests need root, dockerd, containerd and runc: {}", log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Busybox under every name that it has, and the directories that a root file system needs.
fn root_file_system(tar: &mut tar::Builder<Vec<u8>>) {
    let busybox = Path::new("/bin/busybox");
    let listed = Command::new(busybox).arg("--list").output().expect("these tests need busybox-static");
    for (name, mode) in [
        ("bin", 0o755),
        ("dev", 0o755),
        ("etc", 0o755),
        ("proc", 0o755),
        ("run", 0o755),
        ("sys", 0o755),
        ("tmp", 0o1777),
        ("usr", 0o755),
        ("usr/bin", 0o755),
        ("workspace", 0o755),
    ] {
        entry(tar, tar::EntryType::Directory, name, mode, &[]);
    }
    entry(tar, tar::EntryType::Regular, "etc/passwd", 0o644, b"root:x:0:0::/:/bin/sh\n");
    entry(tar, tar::EntryType::Regular, "etc/group", 0o644, b"root:x:0:\n");
    entry(tar, tar::EntryType::Regular, "bin/busybox", 0o755, &fs::read(busybox).unwrap());
    for name in String::from_utf8(listed.stdout).unwrap().lines().filter(|name| *name != "busybox") {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        tar.append_link(&mut header, format!("bin/{name}"), "busybox").unwrap();
    }
}

fn entry(tar: &mut tar::Builder<Vec<u8>>, kind: tar::EntryType, name: &str, mode: u32, mut content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(content.len().try_into().unwrap());
    tar.append_data(&mut header, name, &mut content).unwrap();
}
