//! What the command gets of the helper's own, and what it sees of it.

use crate::run::{Ran, Run, words};

/// whatever the launcher left open.
#[test]
fn the_command_has_descriptors_0_1_and_2_alone() {
    let script = "for fd in $(seq 0 255); do [ -e /proc/$$/fd/$fd ] && echo $fd; done; true";
    assert_eq!(Run::shell(script).run().output, "0\n1\n2\n");
    let bare = Run { without_helper: true, ..Run::shell(script) }.run();
    assert!(bare.output.contains("\n3\n9\n"), "without the helper they are there: {bare:?}");
}

#[test]
fn the_environment_is_passed_on_as_it_is() {
    let env = |without_helper| {
        let bwrap = words("--clearenv --setenv A 1 --setenv B x=y --setenv PATH /usr/bin");
        Run { bwrap, without_helper, command: vec!["env".into()], ..Run::default() }.run()
    };
    let (with, bare): (Ran, Ran) = (env(false), env(true));
    assert!(bare.output.contains("B=x=y\n"), "{bare:?}");
    assert_eq!(with.output, bare.output);
}

/// the first process of a sandbox shows nothing of itself, though the command runs as the same user.
#[test]
fn the_helper_is_closed_to_the_command() {
    let bwrap = words("--unshare-user --uid 1000 --gid 1000 --cap-drop ALL");
    let script = "for file in environ maps mem cwd/.; do
            for pid in $$ 1; do if (exec 2>/dev/null 5</proc/$pid/$file); then echo $file yes; else echo $file no; fi; done
        done";
    let ran = Run { bwrap: bwrap.clone(), ..Run::shell(script) }.run();
    let told = "environ yes\nenviron no\nmaps yes\nmaps no\nmem yes\nmem no\ncwd/. yes\ncwd/. no\n";
    assert_eq!(ran.output, told, "the shell's own, then the helper's");
}

/// what the report says is what the command sees of itself.
#[test]
fn the_report_tells_how_the_command_is_isolated() {
    let bwrap = words("--unshare-user --uid 1000 --gid 1000 --cap-drop ALL");
    let script = "cat /proc/self/uid_map; grep -E '^(Seccomp|NoNewPrivs|CapEff):' /proc/self/status";
    let ran = Run { bwrap, ..Run::shell(script) }.run();
    let seen: Vec<String> = ran.output.lines().map(|line| words(line).join(" ")).collect();
    let told = |key: &str| ran.report.iter().find_map(|line| line.strip_prefix(key)).unwrap_or("").trim().to_owned();
    assert_eq!(told("uid_map"), seen[0], "{ran:?}");
    for (name, key) in [("NoNewPrivs: ", "no_new_privs"), ("Seccomp: ", "seccomp"), ("CapEff: ", "cap_eff")] {
        let seen = seen.iter().find_map(|line| line.strip_prefix(name)).unwrap();
        assert_eq!(told(key), seen, "{key}");
    }
    assert_eq!((ran.report[4].as_str(), ran.last()), ("started", "exited 0"), "{ran:?}");
}

/// A mask of the helper's own would leave the command deaf.
#[test]
fn no_signal_is_blocked_or_ignored_for_the_command() {
    let script = "grep -E '^Sig(Blk|Ign):' /proc/self/status";
    // The C library has uses of its own for two signals above 31.
    let of = |run: Run| -> Vec<u64> {
        let masks = run.run().output;
        masks.lines().map(|line| u64::from_str_radix(&line[8..], 16).unwrap() & 0x7fff_ffff).collect()
    };
    let (with, bare) = (of(Run::shell(script)), of(Run { without_helper: true, ..Run::shell(script) }));
    assert_eq!(with, [0, 0]);
    // And whatever these tests were started to ignore.
    assert_eq!((bare[0], bare[1] & 0b11), (0, 0b11), "the twin ignores what the launcher was started to ignore");
}

#[test]
fn what_the_command_makes_is_its_users_alone() {
    assert_eq!(Run::shell("umask").run().output, "0077\n");
    assert_eq!(Run { without_helper: true, ..Run::shell("umask 0022; umask") }.run().output, "0022\n");
}
