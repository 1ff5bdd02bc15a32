//! A kernel with project quotas: this machine's own, or User Mode Linux.

use std::path::Path;
use std::process::{Command, Output};

/// What the other kernel runs first: it mounts, runs one test, and turns itself off.
const INIT: &str = r#"#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t tmpfs tmpfs /mnt
for module in quota_tree quota_v2; do /bin/busybox insmod /usr/lib/uml/modules/$(uname -r)/kernel/fs/quota/$module.ko; done
mkdir /mnt/quota
mount -t ext4 -o prjquota /dev/ubda /mnt/quota && @VARIABLE@=/mnt/quota @PROGRAM@ --exact @TEST@ --nocapture 2>&1
echo o > /proc/sysrq-trigger
sleep 60
"#;

/// Runs a test of this program once more, with such a file system in the directory that `variable` names; panics where it fails.
pub(crate) fn again(variable: &str, test: &str) {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("disk");
    std::fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
    let mkfs = ["-q", "-F", "-O", "quota,project", "-E", "quotatype=prjquota"];
    done(
        &Command::new("mkfs.ext4").args(mkfs).arg(&image).env("PATH", path()).output().expect("mkfs.ext4"),
        "mkfs.ext4",
    );
    let program = std::env::current_exe().unwrap();
    let mounted = dir.path().join("quota");
    std::fs::create_dir(&mounted).unwrap();
    let mounting = Command::new("mount").args(["-o", "loop,prjquota"]).arg(&image).arg(&mounted).output().unwrap();
    let output = if mounting.status.success() {
        let output = Command::new(program).args(["--exact", test, "--nocapture"]).env(variable, &mounted).output();
        done(&Command::new("umount").arg(&mounted).output().unwrap(), "umount");
        output.unwrap()
    } else {
        let why = String::from_utf8_lossy(&mounting.stderr);
        eprintln!("this kernel mounts no ext4 with prjquota, so that User Mode Linux does: {why}");
        beside(dir.path(), &image, INIT.replace("@VARIABLE@", variable).replace("@TEST@", test), &program)
    };
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("the quota holds") && said.contains("1 passed"), "{said}");
}

/// Has another kernel run it, on this one's files.
fn beside(dir: &Path, image: &Path, init: String, program: &Path) -> Output {
    let first = dir.join("init");
    std::fs::write(&first, init.replace("@PROGRAM@", program.to_str().unwrap())).unwrap();
    std::fs::set_permissions(&first, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = Command::new("timeout");
    command.args([
        "--kill-after=1",
        "120",
        "linux.uml",
        "mem=512M",
        "root=/dev/root",
        "rootfstype=hostfs",
        "rootflags=/",
        "ro",
    ]);
    command.arg(format!("ubd0={}", image.display())).arg(format!("init={}", first.display()));
    command.args(["con=null", "con0=null,fd:1"]).stdin(std::process::Stdio::null()).env("TMPDIR", dir);
    command.output().expect("this kernel has no project quotas: install user-mode-linux, whose kernel has")
}

fn done(output: &Output, what: &str) {
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Debian has some of it where only root's PATH looks.
fn path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}
