//! What may not be asked of the kernel: X-32. Each call is made with arguments that fail for another reason, or do no harm,
//! where it is allowed; so the same program run outside shows that it is the sandbox that refuses.

use crate::place::Place;

attacks![
    forbidden_calls_are_refused,
    forbidden_arguments_are_refused,
    calls_by_the_older_door_are_unknown,
    calls_by_other_numbers_are_unknown,
    a_namespace_in_the_namespace_is_refused,
    ordinary_calls_work,
];

const EPERM: i32 = libc::EPERM;
const ENOSYS: i32 = libc::ENOSYS;

/// What is called, with which arguments, and what it must be answered.
type Forbidden = (&'static str, libc::c_long, &'static [&'static str], i32);

fn forbidden() -> Vec<Forbidden> {
    let none: &[&str] = &[];
    let bad: &[&str] = &["-1", "-1", "-1", "-1", "-1"];
    let calls = vec![
        ("ptrace", libc::SYS_ptrace, none, EPERM),
        ("process_vm_readv", libc::SYS_process_vm_readv, none, EPERM),
        ("process_vm_writev", libc::SYS_process_vm_writev, none, EPERM),
        ("kcmp", libc::SYS_kcmp, none, EPERM),
        ("pidfd_getfd", libc::SYS_pidfd_getfd, bad, EPERM),
        ("mount", libc::SYS_mount, none, EPERM),
        ("umount2", libc::SYS_umount2, &["@/none", "0"], EPERM),
        ("pivot_root", libc::SYS_pivot_root, none, EPERM),
        ("chroot", libc::SYS_chroot, &["@/none"], EPERM),
        ("open_tree", libc::SYS_open_tree, bad, ENOSYS),
        ("move_mount", libc::SYS_move_mount, bad, ENOSYS),
        ("fsopen", libc::SYS_fsopen, none, ENOSYS),
        ("fsconfig", libc::SYS_fsconfig, bad, ENOSYS),
        ("fsmount", libc::SYS_fsmount, bad, ENOSYS),
        ("fspick", libc::SYS_fspick, bad, ENOSYS),
        ("mount_setattr", libc::SYS_mount_setattr, bad, ENOSYS),
        ("add_key", libc::SYS_add_key, none, EPERM),
        ("request_key", libc::SYS_request_key, none, EPERM),
        ("keyctl", libc::SYS_keyctl, &["0", "-3", "0"], EPERM),
        ("bpf", libc::SYS_bpf, bad, EPERM),
        ("perf_event_open", libc::SYS_perf_event_open, none, EPERM),
        ("userfaultfd", libc::SYS_userfaultfd, &["-1"], EPERM),
        ("io_uring_setup", libc::SYS_io_uring_setup, none, ENOSYS),
        ("io_uring_enter", libc::SYS_io_uring_enter, bad, ENOSYS),
        ("io_uring_register", libc::SYS_io_uring_register, bad, ENOSYS),
        ("unshare", libc::SYS_unshare, &["0x10000000"], EPERM),
        ("setns", libc::SYS_setns, bad, EPERM),
        ("clone3", libc::SYS_clone3, none, ENOSYS),
        ("init_module", libc::SYS_init_module, none, EPERM),
        ("finit_module", libc::SYS_finit_module, bad, EPERM),
        ("delete_module", libc::SYS_delete_module, none, EPERM),
        ("kexec_load", libc::SYS_kexec_load, bad, EPERM),
        ("reboot", libc::SYS_reboot, none, EPERM),
        ("swapon", libc::SYS_swapon, none, EPERM),
        ("swapoff", libc::SYS_swapoff, none, EPERM),
        ("acct", libc::SYS_acct, &["@/none"], EPERM),
        ("quotactl", libc::SYS_quotactl, bad, EPERM),
        ("settimeofday", libc::SYS_settimeofday, &["0", "0"], EPERM),
        ("clock_settime", libc::SYS_clock_settime, &["0", "0"], EPERM),
        ("adjtimex", libc::SYS_adjtimex, none, EPERM),
        ("syslog", libc::SYS_syslog, &["10"], EPERM),
        ("open_by_handle_at", libc::SYS_open_by_handle_at, bad, EPERM),
        ("name_to_handle_at", libc::SYS_name_to_handle_at, none, EPERM),
        ("fanotify_init", libc::SYS_fanotify_init, bad, EPERM),
        ("mbind", libc::SYS_mbind, none, EPERM),
        ("move_pages", libc::SYS_move_pages, none, EPERM),
        ("migrate_pages", libc::SYS_migrate_pages, none, EPERM),
        ("vmsplice", libc::SYS_vmsplice, bad, EPERM),
        ("memfd_secret", libc::SYS_memfd_secret, bad, EPERM),
        ("openat2", libc::SYS_openat2, none, ENOSYS),
    ];
    calls.into_iter().chain(of_this_processor()).collect()
}

#[cfg(target_arch = "x86_64")]
fn of_this_processor() -> Vec<Forbidden> {
    vec![
        ("iopl", libc::SYS_iopl, &["9"], EPERM),
        ("ioperm", libc::SYS_ioperm, &["1", "0", "1"], EPERM),
        ("modify_ldt", libc::SYS_modify_ldt, &["0", "@", "16"], EPERM),
    ]
}

#[cfg(not(target_arch = "x86_64"))]
fn of_this_processor() -> Vec<Forbidden> {
    Vec::new()
}

async fn forbidden_calls_are_refused(place: Place) {
    let mut open = 0;
    let all = forbidden();
    let words = |(_, number, args, _): &Forbidden| -> Vec<String> {
        ["call".to_owned(), number.to_string()].into_iter().chain(args.iter().map(|&arg| arg.to_owned())).collect()
    };
    let seen = place.attacks(&all.iter().map(words).collect::<Vec<_>>()).await;
    for ((call, seen), words) in all.iter().zip(seen).zip(all.iter().map(words)) {
        let (name, wanted) = (call.0, call.3);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert_eq!(seen, format!("refused {wanted}"), "{name}");
        let outside = place.outside(&words);
        // A kernel may be built without a call, and then nobody has it.
        open += usize::from(outside != format!("refused {EPERM}") && outside != format!("refused {ENOSYS}"));
    }
    assert!(open * 10 >= all.len() * 7, "only {open} of {} are open outside: nothing is shown", all.len());
}

async fn forbidden_arguments_are_refused(place: Place) {
    let (socket, pair, ioctl) =
        (libc::SYS_socket.to_string(), libc::SYS_socketpair.to_string(), libc::SYS_ioctl.to_string());
    let (mknod, persona) = (libc::SYS_mknodat.to_string(), libc::SYS_personality.to_string());
    for (what, words) in [
        ("netlink", vec!["call", &socket, "16", "3", "0"]),
        ("packet", vec!["call", &socket, "17", "3", "0"]),
        ("vsock", vec!["call", &socket, "40", "1", "0"]),
        ("alg", vec!["call", &socket, "38", "5", "0"]),
        ("raw", vec!["call", &socket, "2", "3", "1"]),
        ("raw over IPv6", vec!["call", &socket, "10", "3", "58"]),
        ("a pair of another family", vec!["call", &pair, "16", "3", "0", "@"]),
        ("TIOCSTI", vec!["call", &ioctl, "0", "0x5412", "@x"]),
        ("TIOCSTI with a bit above", vec!["call", &ioctl, "0", "0x100005412", "@x"]),
        ("TIOCLINUX", vec!["call", &ioctl, "0", "0x541c", "@x"]),
        ("another project's quota", vec!["call", &ioctl, "0", "0x401c5820", "@x"]),
        ("a file's flags", vec!["call", &ioctl, "0", "0x40086602", "@x"]),
        ("a character device", vec!["call", &mknod, "-100", "@device", "0x2180", "0x103"]),
        ("a block device", vec!["call", &mknod, "-100", "@device", "0x6180", "0x700"]),
        ("no randomised addresses", vec!["call", &persona, "0x40000"]),
    ] {
        assert_eq!(place.attack(&words).await, format!("refused {EPERM}"), "{what}");
    }
    for (what, words) in [
        ("netlink", vec!["call", &socket, "16", "3", "0"]),
        ("raw", vec!["call", &socket, "2", "3", "1"]),
        ("no randomised addresses", vec!["call", &persona, "0x40000"]),
        ("a character device", vec!["call", &mknod, "-100", "@device", "0x2180", "0x103"]),
    ] {
        assert!(place.outside(&words).starts_with("done"), "{what} is open outside");
    }
    let _ = std::fs::remove_file(place.path("device"));
}

#[cfg(target_arch = "x86_64")]
async fn calls_by_the_older_door_are_unknown(place: Place) {
    // 20 is getpid there, 26 ptrace. A kernel without that door ends the program by a signal, which is no way in either.
    for number in ["20", "26"] {
        let outcome = place.run(&["./attack", "int80", number]).await;
        let printed = crate::place::text(&outcome);
        assert!(printed == format!("refused {ENOSYS}") || outcome.signal.is_some(), "{number}: {outcome:?}");
    }
    let outside = place.outside(&["int80", "20"]);
    assert!(outside == "done 0" || outside.is_empty(), "{outside}");
}

#[cfg(not(target_arch = "x86_64"))]
async fn calls_by_the_older_door_are_unknown(place: Place) {
    assert_eq!(place.attack(&["call", "172"]).await, "done 0", "this processor has one door");
}

async fn calls_by_other_numbers_are_unknown(place: Place) {
    for number in [0x4000_0000_u32, 0x4000_0027, 0x4000_0065, 0x4000_0200, 0x7fff_ffff] {
        let outcome = place.run(&["./attack", "call", &number.to_string()]).await;
        let printed = crate::place::text(&outcome);
        assert!(printed == format!("refused {ENOSYS}") || outcome.signal.is_some(), "{number:#x}: {outcome:?}");
    }
    assert_eq!(place.attack(&["call", &libc::SYS_getpid.to_string()]).await, "done 0");
}

async fn a_namespace_in_the_namespace_is_refused(place: Place) {
    let clone = libc::SYS_clone.to_string();
    for flag in [0x2_0000_u64, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
        let flags = (flag | 17).to_string();
        assert_eq!(place.attack(&["call", &clone, &flags]).await, format!("refused {EPERM}"), "{flag:#x}");
    }
    assert!(place.attack(&["call", &clone, "17"]).await.starts_with("done"), "a process is fine");
    let unshare = libc::SYS_unshare.to_string();
    assert_eq!(place.attack(&["call", &unshare, "0x10000000"]).await, format!("refused {EPERM}"));
    assert!(place.outside(&["call", &unshare, "0x10000000"]).starts_with("done"));
}

async fn ordinary_calls_work(place: Place) {
    let (socket, pair) = (libc::SYS_socket.to_string(), libc::SYS_socketpair.to_string());
    for words in [
        vec!["call", &socket, "1", "1", "0"],
        vec!["call", &socket, "2", "1", "0"],
        vec!["call", &socket, "10", "2", "0"],
        vec!["call", &pair, "1", "1", "0", "@"],
        vec!["call", &libc::SYS_personality.to_string(), "0xffffffff"],
        vec!["call", &libc::SYS_memfd_create.to_string(), "@name", "0"],
        vec!["call", &libc::SYS_mknodat.to_string(), "-100", "@pipe", "0x1180", "0"],
    ] {
        assert_eq!(place.attack(&words).await, "done 0", "{words:?}");
    }
}
