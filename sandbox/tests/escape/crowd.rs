//! Many at once, and what is left of them.

use std::collections::BTreeSet;
use std::path::Path;

use crate::place::{Place, text};

attacks![many_runs_at_once_do_not_mix_and_leave_nothing];

/// two hundred in namespaces, twenty containers.
async fn many_runs_at_once_do_not_mix_and_leave_nothing(place: Place) {
    // One first, so that what is made once is there before the count.
    assert_eq!(text(&place.run(&["echo", "ready"]).await), "ready");
    let mark = format!("crowd-{}", place.owner.get());
    let before = mounts();
    // An engine takes a third of a second for each, and does no two at once.
    let many = if place.backend.name() == "docker" { 20 } else { 200 };
    let jobs = (0..many).map(|number| {
        let nonce = format!("{mark}-{number}");
        let job = place.job(&["sh", "-c", &format!("echo {nonce}; echo {nonce} >&2")]);
        let backend = place.backend;
        async move {
            let outcome = backend.run(job, None).await.expect("a run that is proved");
            assert_eq!(text(&outcome), nonce);
            assert_eq!(outcome.stderr.bytes(), format!("{nonce}\n").as_bytes());
            outcome.exit_code
        }
    });
    let codes = futures_util::future::join_all(jobs).await;
    assert!(codes.iter().all(|code| *code == 0));
    assert_eq!(crate::place::processes_with(&mark), 0);
    assert_eq!(mounts(), before, "no mount is left");
    let groups = groups_of_tests(&format!("test-{}-{}-", std::process::id(), place.owner.get() - 300_000));
    assert_eq!(groups, BTreeSet::new(), "no group is left");
}

fn mounts() -> usize {
    // Those of others come and go; what a run would leave lies in the host's own table.
    std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().filter(|line| line.contains("newroot")).count()
}

/// The control groups whose names begin so.
fn groups_of_tests(start: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut pending = vec![Path::new("/sys/fs/cgroup").to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.starts_with(start) {
                    found.insert(name.clone());
                }
                pending.push(entry.path());
            }
        }
    }
    found
}
