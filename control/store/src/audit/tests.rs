//! Rows become lines before their transaction is committed, against a log that fails where a test wants it to.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::audit::{
    Actor, AuditEvent, AuditHead, AuditLine, AuditLog, AuditNote, AuditOrder, AuditOutcome, AuditQuery, anchor,
};
use crate::error::StoreError;
use crate::scene::{Scene, operator, tenant_id};
use crate::tenant::{NewTenant, TenantPatch};
use crate::token::NewToken;

/// A log in memory.
#[derive(Clone, Debug, Default)]
struct Log {
    lines: Arc<Mutex<Vec<AuditLine>>>,
    broken: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    /// What the database knew at each append.
    committed: Arc<Mutex<Vec<Option<u64>>>>,
}

impl AuditLog for Log {
    fn append(&mut self, committed: Option<&AuditHead>, events: Vec<AuditEvent>) -> Result<Vec<AuditLine>, String> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.committed.lock().unwrap().push(committed.map(|head| head.seq));
        if self.broken.load(Ordering::SeqCst) {
            return Err("no space".to_owned());
        }
        let mut lines = self.lines.lock().unwrap();
        let mut made = Vec::new();
        for event in events {
            let prev = lines.last().map_or_else(|| "start".to_owned(), |line| line.mac.clone());
            let seq = u64::try_from(lines.len()).unwrap() + 1;
            let line = AuditLine { seq, event, prev, mac: format!("mac{seq}") };
            lines.push(line.clone());
            made.push(line);
        }
        Ok(made)
    }
}

impl Log {
    fn actions(&self) -> Vec<String> {
        self.lines.lock().unwrap().iter().map(|line| line.event.action.clone()).collect()
    }
}

fn with_log() -> (Scene, Log) {
    let (scene, log) = (Scene::new(), Log::default());
    scene.store.attach_audit(Box::new(log.clone())).unwrap();
    (scene, log)
}

fn renamed(name: &str) -> TenantPatch {
    serde_json::from_value(json!({"name": name})).unwrap()
}

fn all(scene: &Scene) -> Vec<AuditLine> {
    scene.store.audit_lines(&AuditQuery { limit: 100, ..AuditQuery::default() }).unwrap()
}

#[test]
fn u_01_a_change_and_its_line_come_together_and_the_database_knows_the_line() {
    let (scene, log) = with_log();
    scene.tenant("acme");
    scene.store.update_tenant(&operator(), &tenant_id("acme"), renamed("A")).wait().unwrap();
    assert_eq!(log.actions(), ["tenant.create", "tenant.update"]);
    assert_eq!(all(&scene), *log.lines.lock().unwrap());
    let line = &all(&scene)[0];
    assert_eq!((line.event.actor.kind.as_str(), line.event.actor.id.as_str()), ("operator", "test"));
    assert_eq!((line.event.ip.as_deref(), line.event.request_id.as_deref()), (Some("127.0.0.1"), Some("req_1")));
    assert_eq!(scene.store.audit_head().unwrap(), Some(AuditHead { seq: 2, mac: "mac2".to_owned() }));
    assert_eq!(anchor(scene.dir.path()).unwrap(), scene.store.audit_head().unwrap());
    assert_eq!(*log.committed.lock().unwrap(), [None, Some(1)]);
    // What changes nothing leaves nothing.
    scene.store.update_tenant(&operator(), &tenant_id("acme"), renamed("A")).wait().unwrap();
    assert!(scene.store.delete_tenant(&operator(), &tenant_id("nobody")).wait().is_err());
    assert_eq!(log.calls.load(Ordering::SeqCst), 2);
}

#[test]
fn u_02_what_cant_be_put_on_record_is_not_done_while_rows_are_committed() {
    let (scene, log) = with_log();
    scene.tenant("acme");
    log.broken.store(true, Ordering::SeqCst);
    let refused = scene.store.update_tenant(&operator(), &tenant_id("acme"), renamed("B")).wait();
    assert!(matches!(&refused, Err(StoreError::AuditUnavailable(why)) if why == "no space"), "{refused:?}");
    let new = NewTenant { id: Some(tenant_id("other")), ..NewTenant::default() };
    assert!(scene.store.create_tenant(&operator(), new, NewToken::default()).wait().is_err());
    assert_eq!(scene.store.tenant(&tenant_id("acme")).unwrap().name, "acme");
    assert!(scene.store.tenant(&tenant_id("other")).is_err());
    assert!(scene.store.healthy(), "the ledger goes on");
    scene.store.inner.writer().run_blocking(|_| Ok(())).unwrap();
    let status = scene.store.audit_status();
    assert_eq!((status.healthy, status.failures, status.lines, status.waiting), (false, 2, 1, Some(0)));
    log.broken.store(false, Ordering::SeqCst);
    scene.store.update_tenant(&operator(), &tenant_id("acme"), renamed("B")).wait().unwrap();
    assert!(scene.store.audit_status().healthy);
    assert_eq!(log.actions(), ["tenant.create", "tenant.update"], "what was refused has no line");
}

/// U-02: it is found out by itself that the log works again
#[tokio::test]
async fn a_log_that_failed_is_tried_by_the_tick() {
    let (scene, log) = with_log();
    scene.store.audit_tick().await.unwrap();
    assert_eq!(log.calls.load(Ordering::SeqCst), 0, "nothing to do");
    log.broken.store(true, Ordering::SeqCst);
    assert!(scene.store.update_tenant(&operator(), &tenant_id("acme"), renamed("B")).await.is_err());
    let note = AuditNote { action: "a.b", tenant: None, target: None, outcome: AuditOutcome::Ok, detail: json!({}) };
    assert!(scene.store.audit(&operator(), note).await.is_err());
    assert!(scene.store.audit_tick().await.is_err());
    log.broken.store(false, Ordering::SeqCst);
    scene.store.audit_tick().await.unwrap();
    assert!(scene.store.audit_status().healthy && log.actions().is_empty());
}

/// U-04: rows that no log was there for get their line once
#[test]
fn rows_that_wait_get_their_line_once() {
    let scene = Scene::new();
    scene.tenant("early");
    scene.tenant("later");
    assert_eq!((all(&scene), scene.store.audit_status().waiting), (Vec::new(), Some(2)));
    let log = Log::default();
    scene.store.attach_audit(Box::new(log.clone())).unwrap();
    let scene = scene.restarted().unwrap();
    scene.store.attach_audit(Box::new(log.clone())).unwrap();
    scene.tenant("acme");
    assert_eq!(
        log.lines.lock().unwrap().iter().map(|line| line.event.tenant.clone().unwrap()).collect::<Vec<_>>(),
        ["early", "later", "acme"]
    );
    assert_eq!(all(&scene).len(), 3);
}

#[test]
fn u_02_after_the_hand_over_nothing_is_appended_and_no_change_is_made() {
    let (scene, log) = with_log();
    scene.tenant("acme");
    scene.store.hand_over();
    let refused = scene.store.update_tenant(&operator(), &tenant_id("acme"), renamed("B")).wait();
    assert!(matches!(refused, Err(StoreError::AuditUnavailable(_))));
    assert_eq!(log.actions(), ["tenant.create"]);
    assert_eq!(scene.store.tenant(&tenant_id("acme")).unwrap().name, "acme");
}

#[test]
fn lines_are_read_by_tenant_and_action_in_both_orders() {
    let (scene, _log) = with_log();
    for id in ["a", "b"] {
        scene.tenant(id);
        scene.store.update_tenant(&Actor::system(), &tenant_id(id), renamed("new")).wait().unwrap();
    }
    let read = |query: AuditQuery| {
        scene.store.audit_lines(&query).unwrap().into_iter().map(|line| line.seq).collect::<Vec<_>>()
    };
    let every = AuditQuery { limit: 10, ..AuditQuery::default() };
    assert_eq!(read(every.clone()), [1, 2, 3, 4]);
    assert_eq!(read(AuditQuery { tenant: Some("b".to_owned()), ..every.clone() }), [3, 4]);
    assert_eq!(read(AuditQuery { action: Some("tenant.update".to_owned()), ..every.clone() }), [2, 4]);
    assert_eq!(read(AuditQuery { after: Some(2), limit: 1, ..every.clone() }), [3]);
    assert_eq!(read(AuditQuery { after: Some(3), order: AuditOrder::Descending, ..every }), [2, 1]);
}
