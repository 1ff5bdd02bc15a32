//! The log on a real disk, and everything that can be done to it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use openclawmu_store::{
    AuditActor, AuditEvent, AuditHead, AuditLine, AuditLog, AuditOutcome, Clock, ManualClock, UnixMs,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::audit::{AuditError, AuditFile, AuditOptions, Problem, ProblemKind, Rotation, Verdict, verify};
use crate::key::AuditKey;

/// A log, and the database's part of it: the newest line that was committed.
struct Scene {
    dir: TempDir,
    clock: Arc<ManualClock>,
    key: AuditKey,
    rotation: Rotation,
    /// `None` while no process has it.
    file: Option<AuditFile>,
    committed: Option<AuditHead>,
}

fn opened(scene: (&Path, &Arc<ManualClock>, &AuditKey, Rotation), known: Option<&AuditHead>) -> AuditFile {
    let (dir, clock, key, rotation) = scene;
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
    let options = AuditOptions { rotation, clock, ..AuditOptions::new(dir.join("audit"), key.clone()) };
    AuditFile::open(options, known).unwrap()
}

impl Scene {
    fn rotating(bytes: u64, daily: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(UnixMs::parse_rfc3339("2026-11-22T12:00:00Z").unwrap()));
        let key = AuditKey::load_or_create(dir.path(), None, false).unwrap();
        let rotation = Rotation { bytes, daily };
        let file = Some(opened((dir.path(), &clock, &key, rotation), None));
        Self { dir, clock, key, rotation, file, committed: None }
    }

    fn new() -> Self {
        Self::rotating(u64::MAX, false)
    }

    /// A log of `count` lines.
    fn of(count: u64) -> Self {
        let mut scene = Self::new();
        (0..count).for_each(|number| drop(scene.write(&format!("a.b{number}"))));
        scene
    }

    /// Appends without committing.
    fn append(&mut self, action: &str) -> Result<Vec<AuditLine>, String> {
        let event = event(self.clock.now(), action);
        self.file.as_mut().unwrap().append(self.committed.as_ref(), vec![event])
    }

    /// Appends and commits.
    fn write(&mut self, action: &str) -> Vec<AuditLine> {
        let lines = self.append(action).unwrap();
        let last = lines.last().unwrap();
        self.committed = Some(AuditHead { seq: last.seq, mac: last.mac.clone() });
        lines
    }

    /// What a process that was killed and started again does.
    fn restart(&mut self) {
        self.file = None;
        let parts = (self.dir.path(), &self.clock, &self.key, self.rotation);
        self.file = Some(opened(parts, self.committed.as_ref()));
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("audit")
    }

    fn path(&self) -> PathBuf {
        self.folder().join("audit.jsonl")
    }

    fn verdict(&self) -> Verdict {
        verify(&self.folder(), &self.key, self.committed.as_ref(), 1).unwrap()
    }

    fn problem(&self) -> (u64, ProblemKind) {
        let verdict = self.verdict();
        let Some(Problem { seq, kind, .. }) = verdict.problem else { panic!("nothing is wrong: {verdict:?}") };
        assert!(!verdict.ok);
        (seq, kind)
    }

    fn is_sound(&self) {
        let verdict = self.verdict();
        assert!(verdict.ok && verdict.problem.is_none(), "{verdict:?}");
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        // The lock says nothing of lines.
        let mut names: Vec<String> = names.filter(|name| name != "lock").collect();
        names.sort();
        names
    }

    /// Changes the lines of the current file.
    fn alter(&self, change: impl FnOnce(&mut Vec<String>)) {
        let text = fs::read_to_string(self.path()).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        change(&mut lines);
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(self.path(), text).unwrap();
    }
}

fn event(at: UnixMs, action: &str) -> AuditEvent {
    AuditEvent {
        at,
        actor: AuditActor { kind: "operator".to_owned(), id: "admin.key".to_owned() },
        ip: Some("192.0.2.1".to_owned()),
        request_id: Some("req_1".to_owned()),
        action: action.to_owned(),
        tenant: Some("acme".to_owned()),
        target: None,
        outcome: AuditOutcome::Ok,
        detail: json!({"b": 1, "a": "line\nfeed \u{1b}[2J"}),
    }
}

#[test]
fn a_line_has_every_field_in_its_order_and_its_mac_over_the_rest() {
    let mut scene = Scene::new();
    scene.write("tenant.update");
    scene.write("tenant.update");
    let text = fs::read_to_string(scene.path()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "a line feed within is escaped");
    let line: Value = serde_json::from_str(lines[1]).unwrap();
    let names: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
    let all = "seq at actor ip request_id action tenant target outcome detail prev mac";
    assert_eq!(names.join(" "), all);
    assert_eq!((line["seq"].as_u64(), line["at"].as_str()), (Some(2), Some("2026-11-22T12:00:00.000Z")));
    let first: Value = serde_json::from_str(lines[0]).unwrap();
    assert_eq!(line["prev"], first["mac"]);
    // As anybody would compute it from the documentation.
    let mac = line["mac"].as_str().unwrap();
    let signed = lines[1].replace(&format!(",\"mac\":\"{mac}\""), "");
    assert_eq!(scene.key.mac(line["prev"].as_str().unwrap(), signed.as_bytes()), mac);
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(scene.path()), mode(scene.folder())), (0o600, 0o700));
    scene.is_sound();
}

#[test]
fn u_03_an_edited_line_is_named() {
    for (place, from, to) in
        [(2, "\"acme\"", "\"evil\""), (0, "req_1", "req_2"), (4, "\"seq\":5", "\"seq\":6"), (3, "{", "[")]
    {
        let scene = Scene::of(5);
        scene.is_sound();
        scene.alter(|lines| lines[place] = lines[place].replacen(from, to, 1));
        assert_eq!(scene.problem(), (u64::try_from(place).unwrap() + 1, ProblemKind::Edited), "{from}");
    }
    // A mac that fits under another key does not fit.
    let (scene, other) = (Scene::of(3), Scene::of(3));
    let foreign = fs::read_to_string(other.path()).unwrap().lines().nth(1).unwrap().to_owned();
    scene.alter(|lines| lines[1] = foreign);
    assert_eq!(scene.problem(), (2, ProblemKind::Edited));
    let spaced = Scene::of(3);
    spaced.alter(|lines| lines[1].push(' '));
    assert_eq!(spaced.problem(), (2, ProblemKind::Edited), "not even a space may be added");
}

#[test]
fn u_03_a_deleted_line_is_named_wherever_it_was() {
    for place in 0..4 {
        let scene = Scene::of(5);
        scene.alter(|lines| drop(lines.remove(place)));
        assert_eq!(scene.problem(), (u64::try_from(place).unwrap() + 1, ProblemKind::Deleted));
    }
}

#[test]
fn u_03_a_moved_or_repeated_line_is_named() {
    let scene = Scene::of(5);
    scene.alter(|lines| lines.swap(1, 3));
    assert_eq!(scene.problem(), (2, ProblemKind::Reordered));
    let scene = Scene::of(5);
    scene.alter(|lines| lines.insert(4, lines[1].clone()));
    assert_eq!(scene.problem(), (2, ProblemKind::Reordered));
}

#[test]
fn u_03_lines_that_are_missing_at_the_end_show_by_what_the_database_knows() {
    let mut scene = Scene::of(5);
    scene.alter(|lines| lines.truncate(3));
    assert_eq!(scene.problem(), (4, ProblemKind::Truncated));
    // Also when the gateway has gone on since: the hole stays.
    scene.restart();
    scene.write("a.b");
    assert_eq!(scene.problem(), (4, ProblemKind::Truncated));
    let text = fs::read_to_string(scene.path()).unwrap();
    assert!(text.contains(r#""action":"audit.missing""#) && text.contains(r#"{"from_seq":4,"to_seq":5}"#), "{text}");
    let cut = Scene::of(5);
    let length = fs::metadata(cut.path()).unwrap().len();
    fs::File::options().write(true).open(cut.path()).unwrap().set_len(length - 10).unwrap();
    assert_eq!(cut.problem(), (5, ProblemKind::Truncated), "a line that was cut is missing");
    let gone = Scene::of(2);
    fs::remove_file(gone.path()).unwrap();
    assert_eq!(gone.problem(), (1, ProblemKind::Truncated));
}

#[test]
fn u_04_a_line_whose_transaction_was_not_committed_is_called_so_once() {
    let mut scene = Scene::of(2);
    scene.append("a.lost").unwrap();
    scene.restart(); // killed between the line and the commit
    scene.is_sound();
    let lines = scene.write("a.next");
    assert_eq!(lines.iter().map(|line| line.seq).collect::<Vec<_>>(), [4, 5]);
    assert_eq!((lines[0].event.action.as_str(), lines[0].event.outcome), ("audit.uncommitted", AuditOutcome::Failed));
    assert_eq!(lines[0].event.detail, json!({"from_seq": 3, "to_seq": 3}));
    assert_eq!(scene.write("a.after").len(), 1);
    scene.is_sound();
    assert_eq!(scene.verdict().last_seq, Some(6));
}

#[test]
fn u_05_a_torn_tail_is_moved_aside_and_noted() {
    let mut scene = Scene::of(2);
    let whole = fs::read(scene.path()).unwrap();
    for cut in [1, 30, 200] {
        let torn = &whole[..cut];
        fs::write(scene.path(), [fs::read(scene.path()).unwrap().as_slice(), torn].concat()).unwrap();
        scene.is_sound();
        scene.restart();
        let lines = scene.write("a.next");
        assert_eq!(lines[0].event.action, "audit.torn");
        assert_eq!(lines[0].event.detail["bytes"], cut);
        let kept = scene.folder().join(lines[0].event.detail["file"].as_str().unwrap());
        assert_eq!(fs::read(kept).unwrap(), torn);
        scene.is_sound();
        scene.clock.set(scene.clock.now().plus_ms(1));
    }
    assert_eq!(scene.names().len(), 4);
}

/// U-02, U-05: bytes that a failed write of this process left
#[test]
fn what_a_failed_write_left_is_moved_aside_before_the_next_line() {
    let mut scene = Scene::of(1);
    fs::File::options()
        .append(true)
        .open(scene.path())
        .map(|mut file| {
            std::io::Write::write_all(&mut file, b"{\"seq\":2,\"half").unwrap();
        })
        .unwrap();
    let lines = scene.write("a.next");
    assert_eq!(lines.iter().map(|line| line.event.action.as_str()).collect::<Vec<_>>(), ["audit.torn", "a.next"]);
    scene.is_sound();
}

#[test]
fn u_02_a_folder_that_takes_nothing_refuses_and_the_outage_is_told_when_it_is_over() {
    let mut scene = Scene::of(1);
    let away = scene.dir.path().join("away");
    fs::rename(scene.folder(), &away).unwrap();
    fs::write(scene.folder(), "in the way").unwrap();
    for _ in 0..2 {
        assert!(scene.append("a.refused").unwrap_err().contains("audit.jsonl"));
    }
    fs::remove_file(scene.folder()).unwrap();
    fs::rename(&away, scene.folder()).unwrap();
    let lines = scene.file.as_mut().unwrap().append(scene.committed.as_ref(), Vec::new()).unwrap();
    assert_eq!((lines.len(), lines[0].event.action.as_str()), (1, "audit.resume"));
    assert_eq!(lines[0].event.detail["refused"], 2);
    scene.committed = Some(AuditHead { seq: lines[0].seq, mac: lines[0].mac.clone() });
    assert_eq!(scene.write("a.next").len(), 1, "once");
    scene.is_sound();
}

#[test]
fn u_07_the_chain_goes_on_over_files_by_size_and_by_day() {
    let mut scene = Scene::rotating(600, true);
    for _ in 0..6 {
        scene.write("a.b");
    }
    scene.clock.set(UnixMs::parse_rfc3339("2026-11-23T00:00:00Z").unwrap());
    scene.write("next.day");
    let names = scene.names();
    assert!(names.len() >= 4, "{names:?}");
    assert!(names.iter().any(|name| name == "audit-2026-11-22-000000000001.jsonl"), "{names:?}");
    scene.is_sound();
    assert_eq!((scene.verdict().lines, scene.verdict().files.len()), (7, names.len()));
    scene.restart();
    scene.write("a.b");
    scene.is_sound();
    // A file that is missing in the middle is missing lines; without the first ones it is verified from a later line on.
    let second = fs::read_to_string(scene.folder().join(&names[1])).unwrap();
    let first_of_second: Value = serde_json::from_str(second.lines().next().unwrap()).unwrap();
    let from = first_of_second["seq"].as_u64().unwrap();
    fs::remove_file(scene.folder().join(&names[0])).unwrap();
    assert_eq!(scene.problem(), (1, ProblemKind::Deleted));
    let later = verify(&scene.folder(), &scene.key, scene.committed.as_ref(), from).unwrap();
    assert!(later.ok && later.first_seq == Some(from), "{later:?}");
}

#[test]
fn u_07_a_file_that_somebody_renamed_loses_no_line() {
    let mut scene = Scene::of(2);
    fs::rename(scene.path(), scene.folder().join("audit.jsonl.1")).unwrap();
    scene.write("a.after"); // noticed by itself
    fs::rename(scene.path(), scene.folder().join("audit.jsonl-20261122")).unwrap();
    scene.file.as_ref().unwrap().reopen().ask();
    scene.write("a.last");
    assert_eq!(scene.names(), ["audit.jsonl", "audit.jsonl-20261122", "audit.jsonl.1"]);
    scene.is_sound();
    assert_eq!(scene.verdict().lines, 4);
    scene.restart();
    scene.write("a.b");
    scene.is_sound();
}

#[test]
fn u_09_numbers_go_on_when_the_clock_is_set_back() {
    let mut scene = Scene::rotating(u64::MAX, true);
    for at in ["2026-11-22T12:00:00Z", "2026-11-25T00:00:00Z", "2020-01-01T00:00:00Z", "2026-11-22T12:00:00Z"] {
        scene.clock.set(UnixMs::parse_rfc3339(at).unwrap());
        scene.write("a.b");
    }
    scene.is_sound();
    assert_eq!((scene.verdict().first_seq, scene.verdict().last_seq), (Some(1), Some(4)));
}

#[test]
fn a_key_that_did_not_sign_the_log_refuses_to_start() {
    let mut scene = Scene::of(2);
    scene.file = None;
    let elsewhere = tempfile::tempdir().unwrap();
    let key = AuditKey::load_or_create(elsewhere.path(), None, false).unwrap();
    let refused = AuditFile::open(AuditOptions::new(scene.folder(), key), scene.committed.as_ref());
    assert!(matches!(refused, Err(AuditError::WrongKey(_))), "{refused:?}");
    let same = AuditFile::open(AuditOptions::new(scene.folder(), scene.key.clone()), scene.committed.as_ref());
    assert!(same.is_ok());
}

#[test]
fn a_folder_that_another_process_writes_to_is_refused_until_that_one_is_gone() {
    let mut scene = Scene::of(2);
    let open =
        |scene: &Scene| AuditFile::open(AuditOptions::new(scene.folder(), scene.key.clone()), scene.committed.as_ref());
    let refused = open(&scene).unwrap_err();
    assert!(matches!(refused, AuditError::Locked(_)) && refused.to_string().starts_with("audit.dir: "), "{refused}");
    scene.file = None;
    assert!(open(&scene).is_ok());
}
