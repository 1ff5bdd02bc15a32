//! Files, links and sizes.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use openclawmu_sandbox::{Ended, PathError, RelPath, Root, Workspace};

use crate::place::{Place, complaint, text};

attacks![
    a_disk_filler_ends_and_the_neighbour_still_writes,
    an_inode_filler_ends,
    a_file_of_a_tebibyte_is_refused,
    setuid_files_cannot_be_made,
    su_has_no_effect,
    nothing_but_the_workspace_is_written,
    a_planted_link_leads_no_later_run_out,
    a_workspace_that_became_a_link_is_refused,
    a_hard_link_out_is_impossible,
    what_a_run_makes_is_the_tenants_alone,
    a_run_starts_where_it_is_told,
];

///
async fn a_disk_filler_ends_and_the_neighbour_still_writes(place: Place) {
    let small = place.limited(&["./attack", "fill", "small", "1000000"], |limits| limits.disk_bytes = Some(64 << 20));
    let small = small.await;
    assert_eq!((small.ended, text(&small).as_str()), (Ended::Exited, "done 0"), "{small:?}");
    let neighbour = place.neighbour();
    // Files that stay below the limit of one file each.
    let script = "i=0; while :; do ./attack fill f$i 33554432 >/dev/null; i=$((i+1)); done";
    let filler = place.limited(&["sh", "-c", script], |limits| limits.disk_bytes = Some(64 << 20)).await;
    assert_eq!(filler.ended, Ended::DiskLimit, "{filler:?}");
    assert!(filler.isolation.limits.disk.contains("soft"), "{}", filler.isolation.limits.disk);
    assert_eq!(text(&neighbour.shell("echo fine > file && cat file").await), "fine");
}

///
async fn an_inode_filler_ends(place: Place) {
    let few = place.limited(&["./attack", "names", ".", "100"], |limits| limits.disk_entries = Some(20_000)).await;
    assert_eq!(few.ended, Ended::Exited, "{few:?}");
    let script = "i=0; while :; do mkdir d$i && ./attack names d$i 5000 >/dev/null; i=$((i+1)); done";
    let many = place.limited(&["sh", "-c", script], |limits| limits.disk_entries = Some(20_000)).await;
    assert_eq!(many.ended, Ended::DiskLimit, "{many:?}");
}

///
async fn a_file_of_a_tebibyte_is_refused(place: Place) {
    assert_eq!(place.attack(&["sparse", "file", "1048576"]).await, "done 0");
    let refused = place.attack(&["sparse", "file", "1099511627776"]).await;
    assert_eq!(refused, format!("refused {}", libc::EFBIG));
    assert_eq!(place.outside(&["sparse", "file", "1099511627776"]), "done 0", "the file system itself takes it");
    std::fs::remove_file(place.path("file")).unwrap();
}

///
async fn setuid_files_cannot_be_made(place: Place) {
    let chmod = format!("call {} -100 @file {}", libc::SYS_fchmodat, 0o4755);
    let make = format!("call {} -100 @made {} {}", libc::SYS_openat, libc::O_CREAT | libc::O_WRONLY, 0o4755);
    let group = format!("call {} -100 @file {}", libc::SYS_fchmodat, 0o2755);
    assert_eq!(text(&place.shell("touch file && chmod 0755 file && stat -c %a file").await), "755");
    for deed in [&chmod, &make, &group] {
        let words: Vec<&str> = deed.split(' ').collect();
        assert_eq!(place.attack(&words).await, format!("refused {}", libc::EPERM), "{deed}");
        assert!(place.outside(&words).starts_with("done"), "{deed} is fine outside");
        std::fs::set_permissions(place.path("file"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let _ = std::fs::remove_file(place.path("made"));
    }
}

/// not even with the system's own setuid programs.
async fn su_has_no_effect(place: Place) {
    let su = place.shell("su -c id root </dev/null").await;
    assert_ne!(su.exit_code, 0, "{su:?}");
    assert_eq!(text(&place.shell("id -u").await), place.inner_user());
}

///
async fn nothing_but_the_workspace_is_written(place: Place) {
    for path in
        ["/file", "/dev/file", "/run/file", "/usr/file", "/usr/bin/file", "/etc/file", "/etc/passwd", "/proc/file"]
    {
        let outcome = place.shell(&format!("echo x > {path}")).await;
        assert_ne!(outcome.exit_code, 0, "{path}");
    }
    for dir in ["/", "/dev", "/run", "/usr", "/etc"] {
        let path = format!("@{}/made", dir.trim_end_matches('/'));
        let mkdir = ["call", &libc::SYS_mkdirat.to_string(), "-100", &path, "0700"];
        // A container's /dev is not read-only, but root's.
        let refusals = [libc::EROFS, libc::EACCES].map(|errno| format!("refused {errno}"));
        assert!(refusals.contains(&place.attack(&mkdir).await), "{dir}");
    }
    for path in ["/workspace/file", "/tmp/file", "/dev/shm/file", "/dev/null"] {
        let outcome = place.shell(&format!("echo x > {path}")).await;
        assert_eq!(outcome.exit_code, 0, "{path}: {}", complaint(&outcome));
    }
}

/// what one run plants, the set-up of the next must not follow.
async fn a_planted_link_leads_no_later_run_out(place: Place) {
    let host = tempfile::tempdir().unwrap();
    std::fs::set_permissions(host.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    for name in ["tmp", "etc", "run", "usr", "dev", ".cache", "proc"] {
        symlink(host.path(), place.path(name)).unwrap();
    }
    let mut job = place.job(&["sh", "-c", "mkdir -p tmp/x etc/y 2>/dev/null; test -L /workspace/tmp && pwd"]);
    job.env = vec![("HOME".into(), "/workspace".into())];
    let outcome = place.run_job(job).await;
    assert_eq!(text(&outcome).lines().last(), Some("/workspace"));
    assert_eq!(std::fs::read_dir(host.path()).unwrap().count(), 0, "nothing was made on the host");
    // As a place to start in such a link is nothing, too.
    symlink(host.path(), place.path("start")).unwrap();
    let mut job = place.job(&["pwd"]);
    job.cwd = Some(RelPath::parse(b"start").unwrap());
    assert!(place.backend.run(job, None).await.map_or(true, |outcome| text(&outcome) != host.path().to_string_lossy()));
    assert_eq!(std::fs::read_dir(host.path()).unwrap().count(), 0);
}

///
async fn a_workspace_that_became_a_link_is_refused(place: Place) {
    let other = place.neighbour();
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("files");
    std::fs::create_dir(&link).unwrap();
    assert!(Workspace::new(Root::open(&link).unwrap(), place.owner).is_ok());
    std::fs::remove_dir(&link).unwrap();
    symlink(other.path(""), &link).unwrap();
    assert!(matches!(Root::open(&link), Err(PathError::Refused | PathError::NotFound)));
}

///
async fn a_hard_link_out_is_impossible(place: Place) {
    for target in ["/etc/passwd", "/usr/bin/env", "/etc/ld.so.cache"] {
        let outcome = place.shell(&format!("ln {target} link")).await;
        assert_ne!(outcome.exit_code, 0, "{target}");
        assert!(!place.path("link").exists());
    }
    assert_eq!(place.shell("touch file && ln file link").await.exit_code, 0, "within the workspace it is fine");
}

async fn what_a_run_makes_is_the_tenants_alone(place: Place) {
    assert_eq!(place.shell("echo x > file; mkdir dir").await.exit_code, 0);
    for name in ["file", "dir", ""] {
        let metadata = std::fs::metadata(place.path(name)).unwrap();
        assert_eq!(metadata.uid(), place.owner.get(), "{name:?}");
        assert_eq!(metadata.mode() & 0o077, 0, "{name:?}");
    }
    // And what the gateway puts there is the tenant's to change.
    let path = RelPath::parse(b"given").unwrap();
    place.workspace().files().replace(&path, b"old").unwrap();
    assert_eq!(text(&place.shell("cat given && echo new > given && cat given").await), "oldnew");
}

async fn a_run_starts_where_it_is_told(place: Place) {
    assert_eq!(place.shell("mkdir -p a/b").await.exit_code, 0);
    let mut job = place.job(&["pwd"]);
    job.cwd = Some(RelPath::parse(b"a/b").unwrap());
    assert_eq!(text(&place.run_job(job).await), "/workspace/a/b");
    assert_eq!(text(&place.run(&["pwd"]).await), "/workspace");
}
