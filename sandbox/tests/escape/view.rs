//! What is seen of the machine, and of others.

use openclawmu_sandbox::Ended;

use crate::place::{Place, text};

attacks![
    another_tenants_files_are_not_there,
    only_three_descriptors_are_open,
    the_environment_is_what_was_given,
    process_1_tells_nothing_of_the_host,
    the_machines_own_files_are_closed,
    host_processes_are_invisible,
    every_outcome_proves_its_isolation,
    the_machine_has_another_name_inside,
];

///
async fn another_tenants_files_are_not_there(place: Place) {
    let other = place.neighbour();
    std::fs::write(other.path("secret"), "of another").unwrap();
    let path = other.path("secret");
    let path = path.to_str().unwrap();
    assert_eq!(std::fs::read_to_string(path).unwrap(), "of another");
    for way in [
        path.to_owned(),
        format!("/proc/1/root{path}"),
        format!("/proc/self/root{path}"),
        format!("/proc/1/cwd/..{path}"),
    ] {
        let outcome = place.run(&["cat", &way]).await;
        assert_ne!(outcome.exit_code, 0, "{way}");
        assert!(!text(&outcome).contains("of another"));
    }
    // The same by handing over the numbers of processes: none of the other's is there.
    let seen = place.shell("cat /proc/[0-9]*/cwd/secret /proc/[0-9]*/root/secret 2>/dev/null; true").await;
    assert_eq!(text(&seen), "");
    assert_eq!(text(&other.run(&["cat", "secret"]).await), "of another");
}

///
async fn only_three_descriptors_are_open(place: Place) {
    assert_eq!(place.attack(&["descriptors"]).await, "0 1 2");
}

///
async fn the_environment_is_what_was_given(place: Place) {
    let mut job = place.job(&["env"]);
    job.env = vec![("GIVEN".into(), "by the caller".into())];
    let outcome = place.run_job(job).await;
    let lines = text(&outcome);
    let mut names: Vec<&str> = lines.lines().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    names.retain(|name| !["PWD", "SHLVL", "_", "HOSTNAME"].contains(name));
    assert_eq!(names, ["GIVEN", "HOME", "LANG", "PATH", "TERM"], "{lines}");
    assert!(lines.contains("GIVEN=by the caller"));
}

///
async fn process_1_tells_nothing_of_the_host(place: Place) {
    // Whatever is there of the host's: the path of the workspace, and what the gateway's own environment holds.
    let host = place.path("");
    let (half, rest) = host.to_str().unwrap().trim_end_matches('/').split_at(6);
    for file in ["/proc/1/environ", "/proc/1/mem", "/proc/1/maps", "/proc/1/auxv"] {
        let seen = place.attack(&["look", file, half, rest]).await;
        assert!(seen.starts_with("refused"), "{file}: {seen}");
    }
    let seen = place.attack(&["look", "/proc/1/cmdline", half, rest]).await;
    assert!(seen.starts_with("absent"), "{seen}");
    let links = place.shell("readlink /proc/1/cwd /proc/1/root /proc/1/exe /proc/1/fd/* ; true").await;
    assert!(!text(&links).contains('/'), "{links:?}");
    let own = place.shell("cat /proc/self/environ | tr '\\0' '\\n'").await;
    assert!(text(&own).contains("HOME=/workspace"), "one's own is one's own");
    let mounts = place.shell("cat /proc/self/mountinfo /proc/self/cgroup").await;
    assert!(!text(&mounts).contains(&format!("test-{}", std::process::id())), "{}", text(&mounts));
}

///
async fn the_machines_own_files_are_closed(place: Place) {
    for file in ["/proc/kcore", "/proc/kmsg", "/dev/mem", "/dev/kmsg", "/dev/sda", "/sys/kernel/notes"] {
        assert_ne!(place.run(&["head", "-c", "1", file]).await.exit_code, 0, "{file}");
    }
    for file in ["/proc/keys", "/proc/key-users", "/proc/kallsyms", "/proc/timer_list"] {
        assert_eq!(text(&place.shell(&format!("head -c 1 {file} 2>/dev/null; true")).await), "", "{file}");
    }
    for file in [
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/vm/drop_caches",
        "/proc/sys/kernel/hostname",
    ] {
        assert_ne!(place.shell(&format!("echo x > {file}")).await.exit_code, 0, "{file}");
    }
    assert_eq!(place.run(&["head", "-c", "1", "/proc/meminfo"]).await.exit_code, 0, "what programs need is there");
}

///
async fn host_processes_are_invisible(place: Place) {
    let listed = place.shell("ls /proc | grep -c '^[0-9]'").await;
    let count: usize = text(&listed).parse().unwrap();
    assert!(count <= 6, "{count} processes are seen");
    let own = std::process::id().to_string();
    let signal = place.attack(&["call", &libc::SYS_kill.to_string(), &own, "0"]).await;
    assert_eq!(signal, format!("refused {}", libc::ESRCH));
    assert_eq!(place.outside(&["call", &libc::SYS_kill.to_string(), &own, "0"]), "done 0");
}

///
async fn every_outcome_proves_its_isolation(place: Place) {
    for command in [&["true"][..], &["false"], &["no-such-program"], &["./attack", "die", "9"]] {
        let proof = place.run(command).await.isolation;
        assert_eq!(proof.seccomp, 2, "{command:?}");
        assert!(proof.no_new_privs);
        assert_eq!(proof.cap_eff.trim_start_matches('0'), "");
        assert!(!proof.uid_map.is_empty());
        assert!(proof.limits.memory.starts_with("cgroup") || proof.limits.memory == "docker", "{:?}", proof.limits);
        assert_eq!(proof.limits.user, "own");
    }
    let spin = place.limited(&["./attack", "spin"], |limits| limits.wall = std::time::Duration::from_millis(400)).await;
    assert_eq!((spin.ended, spin.isolation.seccomp), (Ended::TimedOut, 2));
    // What it says is what is seen from inside.
    let inside = place.shell("grep -E '^(Seccomp|NoNewPrivs|CapEff|CapBnd):' /proc/self/status").await;
    let inside = text(&inside);
    assert!(inside.contains("Seccomp:\t2") && inside.contains("NoNewPrivs:\t1"), "{inside}");
    assert!(inside.contains("CapEff:\t0000000000000000"), "{inside}");
}

async fn the_machine_has_another_name_inside(place: Place) {
    assert_eq!(text(&place.run(&["uname", "-n"]).await), "sandbox");
}
