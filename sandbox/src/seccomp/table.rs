//! The numbers of the system calls that the policy names.
//!
//! Sources: the kernel's `arch/x86/entry/syscalls/syscall_64.tbl`, and `include/uapi/asm-generic/unistd.h` for aarch64. A call
//! that one of the two does not have has no number there.

use super::Arch;

/// Name, number on x86-64, number on aarch64.
const TABLE: &[(&str, Option<u32>, Option<u32>)] = &[
    ("ptrace", Some(101), Some(117)),
    ("process_vm_readv", Some(310), Some(270)),
    ("process_vm_writev", Some(311), Some(271)),
    ("kcmp", Some(312), Some(272)),
    ("pidfd_getfd", Some(438), Some(438)),
    ("mount", Some(165), Some(40)),
    ("umount2", Some(166), Some(39)),
    ("pivot_root", Some(155), Some(41)),
    ("chroot", Some(161), Some(51)),
    ("open_tree", Some(428), Some(428)),
    ("open_tree_attr", Some(467), Some(467)),
    ("move_mount", Some(429), Some(429)),
    ("fsopen", Some(430), Some(430)),
    ("fsconfig", Some(431), Some(431)),
    ("fsmount", Some(432), Some(432)),
    ("fspick", Some(433), Some(433)),
    ("mount_setattr", Some(442), Some(442)),
    ("add_key", Some(248), Some(217)),
    ("request_key", Some(249), Some(218)),
    ("keyctl", Some(250), Some(219)),
    ("bpf", Some(321), Some(280)),
    ("perf_event_open", Some(298), Some(241)),
    ("userfaultfd", Some(323), Some(282)),
    ("io_uring_setup", Some(425), Some(425)),
    ("io_uring_enter", Some(426), Some(426)),
    ("io_uring_register", Some(427), Some(427)),
    ("unshare", Some(272), Some(97)),
    ("setns", Some(308), Some(268)),
    ("clone", Some(56), Some(220)),
    ("clone3", Some(435), Some(435)),
    ("init_module", Some(175), Some(105)),
    ("finit_module", Some(313), Some(273)),
    ("delete_module", Some(176), Some(106)),
    ("create_module", Some(174), None),
    ("get_kernel_syms", Some(177), None),
    ("query_module", Some(178), None),
    ("kexec_load", Some(246), Some(104)),
    ("kexec_file_load", Some(320), Some(294)),
    ("reboot", Some(169), Some(142)),
    ("swapon", Some(167), Some(224)),
    ("swapoff", Some(168), Some(225)),
    ("acct", Some(163), Some(89)),
    ("quotactl", Some(179), Some(60)),
    ("quotactl_fd", Some(443), Some(443)),
    ("nfsservctl", Some(180), Some(42)),
    ("vhangup", Some(153), Some(58)),
    ("uselib", Some(134), None),
    ("iopl", Some(172), None),
    ("ioperm", Some(173), None),
    ("modify_ldt", Some(154), None),
    ("settimeofday", Some(164), Some(170)),
    ("clock_settime", Some(227), Some(112)),
    ("adjtimex", Some(159), Some(171)),
    ("clock_adjtime", Some(305), Some(266)),
    ("syslog", Some(103), Some(116)),
    ("open_by_handle_at", Some(304), Some(265)),
    ("name_to_handle_at", Some(303), Some(264)),
    ("lookup_dcookie", Some(212), Some(18)),
    ("fanotify_init", Some(300), Some(262)),
    ("fanotify_mark", Some(301), Some(263)),
    ("mbind", Some(237), Some(235)),
    ("get_mempolicy", Some(239), Some(236)),
    ("set_mempolicy", Some(238), Some(237)),
    ("set_mempolicy_home_node", Some(450), Some(450)),
    ("migrate_pages", Some(256), Some(238)),
    ("move_pages", Some(279), Some(239)),
    ("vmsplice", Some(278), Some(75)),
    ("memfd_secret", Some(447), Some(447)),
    ("mknod", Some(133), None),
    ("mknodat", Some(259), Some(33)),
    ("chmod", Some(90), None),
    ("fchmod", Some(91), Some(52)),
    ("fchmodat", Some(268), Some(53)),
    ("fchmodat2", Some(452), Some(452)),
    ("creat", Some(85), None),
    ("open", Some(2), None),
    ("openat", Some(257), Some(56)),
    ("openat2", Some(437), Some(437)),
    ("ioctl", Some(16), Some(29)),
    ("socket", Some(41), Some(198)),
    ("socketpair", Some(53), Some(199)),
    ("personality", Some(135), Some(92)),
];

/// Whether the name is in the table at all.
pub(super) fn knows(call: &str) -> bool {
    TABLE.iter().any(|(name, ..)| *name == call)
}

/// The call's number; none where the processor's table has no such call.
pub(super) fn number(arch: Arch, call: &str) -> Option<u32> {
    let (_, x86_64, aarch64) = TABLE.iter().find(|(name, ..)| *name == call)?;
    match arch {
        Arch::X86_64 => *x86_64,
        Arch::Aarch64 => *aarch64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What seccompiler's own tables, made from the kernel's headers, say of a call: it is the number that its filter compares.
    fn elsewhere(arch: seccompiler::TargetArch, call: &str) -> Option<u32> {
        const JUMP_IF_EQUAL: u16 = 0x15;
        let text = format!(
            r#"{{"it":{{"mismatch_action":"allow","match_action":"trap","filter":[{{"syscall":"{call}"}}]}}}}"#
        );
        let programs = seccompiler::compile_from_json(text.as_bytes(), arch).ok()?;
        let mut compares = programs["it"].iter().filter(|step| step.code == JUMP_IF_EQUAL);
        compares.next_back().map(|step| step.k)
    }

    #[test]
    fn x32_every_number_is_the_one_that_another_table_has() {
        let mut compared = 0;
        for (name, x86_64, aarch64) in TABLE {
            for (arch, ours) in [(seccompiler::TargetArch::x86_64, x86_64), (seccompiler::TargetArch::aarch64, aarch64)]
            {
                // Calls that are newer than that table have one number on all processors, from 424 on.
                match elsewhere(arch, name) {
                    Some(theirs) => {
                        compared += 1;
                        assert_eq!(*ours, Some(theirs), "{name}");
                    }
                    None => assert!(ours.is_none_or(|number| number >= 424), "{name} is unknown elsewhere"),
                }
            }
        }
        assert!(compared > 120, "only {compared} were compared");
    }

    #[test]
    fn x32_newer_calls_have_one_number_on_all_processors() {
        for (name, x86_64, aarch64) in TABLE.iter().filter(|(_, number, _)| number.is_some_and(|number| number >= 424))
        {
            assert_eq!(x86_64, aarch64, "{name}");
        }
    }
}
