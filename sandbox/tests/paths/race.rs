//! P-03: a tenant swaps a directory or a file with a link to the outside, as fast as the kernel
//! lets it, while others read, write, list and remove. Nothing leaks and nothing outside changes.
//!
//! The twins: the same readers succeed many times on what is legitimate, and a reader that opens
//! plain paths in the same rig does leak, which shows that the rig can see a leak.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use openclawmu_sandbox::{PathError, Root};
use rustix::fs::{RenameFlags, renameat_with};

use crate::place::{CANARY, INSIDE, Place, is_404, read_text, rel};

/// How much longer than asked a race may run until each outcome was seen.
const GRACE: Duration = Duration::from_secs(60);

fn race_duration() -> Duration {
    let seconds = match std::env::var("OPENCLAWMU_RACE_SECONDS") {
        Ok(text) => text.parse().expect("OPENCLAWMU_RACE_SECONDS is a number of seconds"),
        Err(_) => 5,
    };
    Duration::from_secs(seconds)
}

/// Each pair: a legitimate name, and the evil one it is swapped with.
const PAIRS: [(&str, &str); 3] = [("swap", "swap.evil"), ("file", "file.evil"), ("hard", "hard.evil")];

/// `swap` is a directory against a link to a directory, `file` a file against a link to a file,
/// `hard` a file against a hard link to another tenant's file.
fn rig() -> Place {
    let place = Place::new();
    fs::create_dir(place.inside("swap")).unwrap();
    for name in ["swap/secret.txt", "file", "hard"] {
        fs::write(place.inside(name), INSIDE).unwrap();
    }
    symlink("../outside", place.inside("swap.evil")).unwrap();
    symlink("../outside/secret.txt", place.inside("file.evil")).unwrap();
    // Another file than the links lead to: that one must have one name, or its second would shield it.
    fs::hard_link(place.path().join("t1-evil/secret.txt"), place.inside("hard.evil")).unwrap();
    place
}

/// Swaps every pair until it is told to stop.
fn swap_until(stop: &AtomicBool, place: &Place, swaps: &AtomicU64) {
    let dir = File::open(place.inside("")).unwrap();
    while !stop.load(Ordering::Relaxed) {
        for (good, evil) in PAIRS {
            renameat_with(&dir, good, &dir, evil, RenameFlags::EXCHANGE).unwrap();
            swaps.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What became of the tries of one kind.
#[derive(Default)]
struct Tally {
    good: AtomicU64,
    refused: AtomicU64,
}

impl Tally {
    /// Fails at the first leak.
    fn count(&self, outcome: Result<String, PathError>) {
        let tally = match outcome {
            Ok(text) => {
                assert_eq!(text, INSIDE, "the outside was reached");
                &self.good
            }
            Err(error) => {
                assert!(is_404(&error), "{error:?}");
                &self.refused
            }
        };
        tally.fetch_add(1, Ordering::Relaxed);
    }

    fn both_seen(&self, at_least: u64) -> bool {
        self.good.load(Ordering::Relaxed) >= at_least && self.refused.load(Ordering::Relaxed) >= at_least
    }
}

/// Runs `step` for `duration`, and on until `enough`; then stops the swapper.
fn race(place: &Place, duration: Duration, mut step: impl FnMut(), enough: impl Fn() -> bool) -> u64 {
    let (stop, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| swap_until(&stop, place, &swaps));
        // A failing step must not leave the swapper running.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            while start.elapsed() < duration || !enough() {
                assert!(start.elapsed() < duration + GRACE, "an outcome was not seen in time");
                step();
            }
        }));
        stop.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    swaps.into_inner()
}

#[test]
fn p03_readers_of_swapped_names_never_see_the_outside() {
    let place = rig();
    let paths = ["swap/secret.txt", "file", "hard"].map(rel);
    let tallies: [Tally; 3] = Default::default();
    let steady = AtomicU64::new(0);
    let swaps = race(
        &place,
        race_duration(),
        || {
            for (path, tally) in paths.iter().zip(&tallies) {
                tally.count(read_text(&place.root, path));
            }
            assert_eq!(read_text(&place.root, &rel("dir/file.txt")).unwrap(), INSIDE);
            steady.fetch_add(1, Ordering::Relaxed);
        },
        || tallies.iter().all(|tally| tally.both_seen(100)),
    );
    for (path, tally) in paths.iter().zip(&tallies) {
        assert!(tally.both_seen(100), "{path}");
    }
    assert!(swaps > 1000 && steady.into_inner() > 1000);
}

#[test]
fn p03_a_reader_of_plain_paths_leaks_in_the_same_rig() {
    let place = rig();
    let paths = ["swap/secret.txt", "file", "hard"].map(|name| place.inside(name));
    let leaks: [AtomicU64; 3] = Default::default();
    let enough = || leaks.iter().all(|leak| leak.load(Ordering::Relaxed) > 0);
    race(
        &place,
        Duration::ZERO,
        || {
            for (path, leak) in paths.iter().zip(&leaks) {
                if fs::read_to_string(path).is_ok_and(|text| text == CANARY) {
                    leak.fetch_add(1, Ordering::Relaxed);
                }
            }
        },
        enough,
    );
    assert!(enough());
}

/// A write that went where it was meant to, one that was refused; anything else is a fault.
fn written(tally: &Tally, outcome: Result<(), PathError>) {
    tally.count(outcome.map(|()| INSIDE.to_owned()));
}

#[test]
fn p03_writers_and_listers_of_swapped_names_never_touch_the_outside() {
    let place = rig();
    let root: &Root = &place.root;
    fs::write(place.inside("swap/inside-only"), INSIDE).unwrap();
    let (written_to, listed) = (Tally::default(), Tally::default());
    race(
        &place,
        race_duration(),
        || {
            written(&written_to, root.append(&rel("swap/log")).map(|mut file| file.write_all(b"x").unwrap()));
            written(&written_to, root.append(&rel("file")).map(drop));
            written(&written_to, root.append(&rel("hard")).map(drop));
            written(&written_to, root.replace(&rel("swap/replaced"), b"x"));
            written(&written_to, root.create_dir_all(&rel("swap/made/deep")));
            written(&written_to, root.remove_tree(&rel("swap/made")));
            written(&written_to, root.remove_file(&rel("swap/log")));
            written(&written_to, root.metadata(&rel("file")).map(|known| assert_eq!(known.size_bytes, 6)));
            // Were one of these to act outside, the secret would have another name there.
            written(&written_to, root.rename(&rel("swap/secret.txt"), &rel("swap/renamed")));
            written(&written_to, root.rename(&rel("swap/renamed"), &rel("swap/secret.txt")));
            let page = root.list(Some(&rel("swap")), None, 10);
            listed.count(page.map(|page| {
                let inside = page.entries.iter().any(|entry| entry.name == "inside-only");
                if inside { INSIDE } else { CANARY }.to_owned()
            }));
        },
        || written_to.both_seen(100) && listed.both_seen(10),
    );
    assert!(written_to.both_seen(100) && listed.both_seen(10));
    // `hard.evil` is a second name of the secret: the directory and its content are what they were.
    place.assert_outside_untouched();
}

#[test]
fn p03_a_tree_removed_while_its_directories_turn_into_links_leaves_the_outside() {
    let place = Place::new();
    let (start, duration) = (Instant::now(), race_duration());
    let (mut removed, swaps) = (0_u64, AtomicU64::new(0));
    while start.elapsed() < duration || removed < 20 || swaps.load(Ordering::Relaxed) < 100 {
        assert!(start.elapsed() < duration + GRACE, "an outcome was not seen in time");
        fs::create_dir_all(place.inside("tree/sub/deep")).unwrap();
        for number in 0..20 {
            fs::write(place.inside("tree/sub").join(number.to_string()), INSIDE).unwrap();
            fs::write(place.inside("tree/sub/deep").join(number.to_string()), INSIDE).unwrap();
        }
        symlink("../../outside", place.inside("tree/evil")).unwrap();
        let tree = File::open(place.inside("tree")).unwrap();
        let (done, swapping) = (AtomicBool::new(false), AtomicBool::new(false));
        let outcome = thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // Fails once one of the two is gone, which is the point of removing.
                    if renameat_with(&tree, "sub", &tree, "evil", RenameFlags::EXCHANGE).is_ok() {
                        swaps.fetch_add(1, Ordering::Relaxed);
                        swapping.store(true, Ordering::Relaxed);
                    }
                }
            });
            while !swapping.load(Ordering::Relaxed) && start.elapsed() < duration + GRACE {
                thread::yield_now();
            }
            let outcome = place.root.remove_tree(&rel("tree"));
            done.store(true, Ordering::Relaxed);
            outcome
        });
        match outcome {
            Ok(()) => {}
            // Kept from it for several passes: it says so, and works as soon as it is left alone.
            Err(PathError::Conflict) => place.root.remove_tree(&rel("tree")).unwrap(),
            Err(error) => panic!("{error:?}"),
        }
        removed += 1;
        assert!(!place.inside("tree").exists());
        place.assert_outside_untouched();
    }
}
