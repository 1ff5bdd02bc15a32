//! How a session ends, and what is left of it.

use std::time::Duration;

use openclawmu_terminal::frame::ClientFrame;
use openclawmu_terminal::{Reason, TerminalError};

use crate::client::Client;
use crate::place::{driver, on_a_place, processes_with, until};

/// The kernel throws away what is on its way when the leader of a terminal's session ends: with a window so small, and a client that
/// does not acknowledge, nearly all of it is on its way then.
#[test]
fn the_last_words_of_a_shell_are_never_lost() {
    on_a_place(
        |settings| settings.window_bytes = 1 << 10,
        |place| async move {
            for number in 0..50 {
                let script = format!("seq 1 {}; echo the last {number}; exit 7", 1 + number * 37);
                let (session, mut client) = place.script(&script).await;
                client.acks = number % 2 == 0;
                client.end().await;
                let last = format!("the last {number}\r\n");
                assert!(client.text().ends_with(&last), "{number}: {:?}", client.tail());
                assert_eq!(client.exit, Some(7));
                session.gone().await;
            }
        },
    );
}

/// What it leaves behind in the sandbox goes with it, also if it writes all the time.
#[test]
fn a_shell_that_ends_takes_its_background_along() {
    on_a_place(
        |_| {},
        |mut place| async move {
            let (_session, mut client) =
                place.script("setsid sh -c 'exec yes left-behind-1618' & sleep 0.05; exit 3").await;
            client.end().await;
            assert_eq!(client.exit, Some(3));
            assert_eq!(place.closed().await.reason, Reason::Exited);
            assert!(processes_with("left-behind-1618").is_empty());
        },
    );
}

/// T-03, T-07: no process, and no zombie either.
#[test]
fn whoever_ends_a_session_leaves_no_process_of_it() {
    on_a_place(
        |_| {},
        |mut place| async move {
            let (session, mut client) = place.shell().await;
            client.types("trap '' TERM HUP INT; setsid sleep 27182.8182 & sleep 27182.8182 & sleep 27182.8182\r").await;
            until("three of them", || processes_with("27182.8182").len() >= 3).await;
            let launcher = ancestor(processes_with("27182.8182")[0]);
            assert!(std::fs::exists(format!("/proc/{launcher}")).unwrap());
            assert!(place.terminals.end(session.id(), Reason::Revoked));
            session.gone().await;
            assert!(processes_with("27182.8182").is_empty());
            assert!(!std::fs::exists(format!("/proc/{launcher}")).unwrap(), "it was waited for");
            let closed = place.closed().await;
            assert_eq!((closed.reason, closed.exit), (Reason::Revoked, Some(137)));
            client.end().await;
            assert_eq!((client.errors.as_slice(), client.exit), (&["revoked".to_owned()][..], Some(137)));
            assert!(place.terminals.session(session.id()).is_none());
            assert!(matches!(session.attach(driver("ann"), None), Err(TerminalError::Over(Reason::Revoked))));
            assert!(!place.terminals.end(session.id(), Reason::Ended), "it is known no longer");
        },
    );
}

/// The child of this process that another process comes from.
fn ancestor(pid: u32) -> u32 {
    let mut pid = pid;
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let parent: u32 = stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
        if parent == std::process::id() {
            return pid;
        }
        pid = parent;
    }
}

/// T-07.
#[test]
fn a_session_that_nobody_types_into_ends() {
    on_a_place(
        |settings| settings.idle = Duration::from_millis(200),
        |mut place| async move {
            let (_session, mut client) = place.script("sleep 16180.3398").await;
            // Whoever looks and pings types nothing.
            client.feed(ClientFrame::Ping(1)).await;
            client.end().await;
            assert_eq!(client.errors, ["idle"]);
            assert_eq!(place.closed().await.reason, Reason::Idle);
            assert!(processes_with("16180.3398").is_empty());
        },
    );
}

/// T-07.
#[test]
fn a_session_that_nobody_is_attached_to_ends_and_one_that_somebody_is_does_not() {
    on_a_place(
        |settings| settings.detached_life = Duration::from_millis(200),
        |mut place| async move {
            let (session, client) = place.script("read end").await;
            let other = place.open(&["cat"]).await;
            assert_eq!(place.closed().await.reason, Reason::Detached);
            other.gone().await;
            assert!(place.terminals.session(session.id()).is_some());
            drop(client);
            assert_eq!(place.closed().await.reason, Reason::Detached);
            session.gone().await;
        },
    );
}

#[test]
fn a_session_that_lived_as_long_as_one_may_ends_whatever_is_typed() {
    on_a_place(
        |settings| settings.hard_limit = Duration::from_millis(500),
        |mut place| async move {
            let session = place.open(&["cat"]).await;
            let mut client = Client::new(&session, driver("ann"), None);
            while client.exit.is_none() {
                client.types("x\r").await;
                client.step().await;
            }
            assert_eq!(client.errors, ["time_limit"]);
            assert_eq!(place.closed().await.reason, Reason::TimeLimit);
        },
    );
}

#[test]
fn what_a_shell_is_killed_for_is_told() {
    on_a_place(
        |_| {},
        |mut place| async move {
            let mut order = place.order(&["sh", "-c", "read begin; exec tail /dev/zero"]);
            order.limits.memory_bytes = 32 << 20;
            let session = place.terminals.open(order).await.unwrap();
            let mut client = Client::new(&session, driver("ann"), None);
            client.types("\r").await;
            client.end().await;
            assert_eq!((client.errors.as_slice(), client.exit), (&["oom".to_owned()][..], Some(137)));
            assert_eq!(place.closed().await.reason, Reason::OutOfMemory);
        },
    );
}
