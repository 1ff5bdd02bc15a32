//! What is refused before anything runs.

use std::sync::Arc;

use async_trait::async_trait;
use openclawmu_sandbox::{Backend, Chunk, Job, Outcome, SandboxError};
use openclawmu_terminal::{Reason, TerminalError};
use tokio::sync::mpsc;

use crate::place::{Place, on_a_place};

fn nothing_is_left(place: &Place) {
    assert_eq!(std::fs::read_dir(place.path("recordings")).unwrap().count(), 0, "no recording");
    assert!(place.terminals.list().is_empty());
}

/// Isolates nothing.
struct Broken {
    has_terminals: bool,
}

#[async_trait]
impl Backend for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn has_terminals(&self) -> bool {
        self.has_terminals
    }

    async fn run(&self, _: Job, _: Option<mpsc::Sender<Chunk>>) -> Result<Outcome, SandboxError> {
        Err(SandboxError::Namespaces("none to be had".to_owned()))
    }
}

#[test]
fn a_backend_without_terminals_is_named() {
    on_a_place(
        |_| {},
        |place| async move {
            let mut order = place.order(&["sh"]);
            order.backend = Arc::new(Broken { has_terminals: false });
            let refused = place.terminals.open(order).await.unwrap_err();
            assert!(matches!(refused, TerminalError::NoTerminals("broken")));
            nothing_is_left(&place);
        },
    );
}

#[test]
fn where_isolation_can_not_be_had_nothing_runs_and_the_reason_is_told() {
    on_a_place(
        |_| {},
        |place| async move {
            let mut order = place.order(&["sh"]);
            order.backend = Arc::new(Broken { has_terminals: true });
            let refused = place.terminals.open(order).await.unwrap_err();
            assert_eq!(refused.code(), "namespaces_off");
            nothing_is_left(&place);
        },
    );
}

#[test]
fn a_shell_that_is_not_there_is_named() {
    on_a_place(
        |_| {},
        |place| async move {
            let refused = place.terminals.open(place.order(&["no-such-shell"])).await.unwrap_err();
            assert!(matches!(refused, TerminalError::Shell(127)), "{refused}");
            nothing_is_left(&place);
        },
    );
}

#[test]
fn a_tenant_has_as_many_sessions_as_it_may_and_ids_are_given_once() {
    on_a_place(
        |settings| settings.sessions_per_tenant = 2,
        |place| async move {
            let first = place.open(&["cat"]).await;
            let mut same = place.order(&["cat"]);
            same.id = openclawmu_sandbox::RunId::parse(first.id()).unwrap();
            assert!(matches!(place.terminals.open(same).await, Err(TerminalError::Taken)));
            let _second = place.open(&["cat"]).await;
            let third = place.terminals.open(place.order(&["cat"])).await;
            assert!(matches!(third, Err(TerminalError::TooMany { limit: 2 })));
            let mut other = place.order(&["cat"]);
            other.tenant = "other".into();
            place.terminals.open(other).await.expect("another tenant's are counted for themselves");
            assert_eq!(place.terminals.list().len(), 3);
            assert!(place.terminals.end(first.id(), Reason::Ended));
            first.gone().await;
            place.open(&["cat"]).await;
            assert_eq!(place.terminals.end_tenant("acme", Reason::TenantGone), 2);
            place.terminals.shut_down().await;
            let late = place.terminals.open(place.order(&["cat"])).await;
            assert!(matches!(late, Err(TerminalError::Over(Reason::Shutdown))));
        },
    );
}

#[test]
fn whoever_gives_up_waiting_leaves_no_session() {
    on_a_place(
        |_| {},
        |place| async move {
            let opening = place.terminals.open(place.order(&["cat"]));
            // Polled once, and let go of.
            let waited = tokio::time::timeout(std::time::Duration::ZERO, opening).await;
            assert!(waited.is_err());
            place.terminals.shut_down().await;
            assert!(place.terminals.list().is_empty());
        },
    );
}
