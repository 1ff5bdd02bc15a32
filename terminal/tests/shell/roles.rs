//! Who may do what, and who is told of it.

use std::sync::Arc;

use openclawmu_terminal::frame::ClientFrame;
use openclawmu_terminal::{FrameError, Reason, Role, TerminalError, Viewers, Violation, What};

use crate::client::Client;
use crate::place::{driver, on_a_place, viewer};

#[test]
fn an_observer_neither_types_nor_resizes_and_that_is_told_once() {
    on_a_place(
        |_| {},
        |mut place| async move {
            let (session, mut client) = place.script("read line; echo got $line; stty size; read end").await;
            for role in [Role::Observer, Role::Moderator] {
                let watcher = viewer("sue", role);
                let watching = Client::new(&session, watcher.clone(), None);
                watching.types("evil\r").await;
                watching.types("evil\r").await;
                watching.resizes(10, 10).await;
                drop(watching);
                let told = async |place: &mut crate::place::Place| loop {
                    let what = place.told().await;
                    let others = matches!(&what, What::Opened { .. })
                        || matches!(&what, What::Attached(who) if who.role == Role::Driver);
                    if !others {
                        break what;
                    }
                };
                let watcher = Arc::new(watcher);
                assert_eq!(told(&mut place).await, What::Attached(Arc::clone(&watcher)));
                let violation = What::RoleViolation { viewer: Arc::clone(&watcher), tried: Violation::Input };
                assert_eq!(told(&mut place).await, violation);
                assert_eq!(told(&mut place).await, What::Detached { viewer: watcher, violations: 3 });
            }
            // The driver's own is taken.
            client.types("good\r").await;
            client.until("got good\r\n24 80\r\n").await;
            assert!(!client.text().contains("evil"));
        },
    );
}

#[test]
fn a_watcher_sees_what_the_driver_sees_and_both_who_looks() {
    on_a_place(
        |_| {},
        |place| async move {
            let (session, mut client) = place.script("echo he''llo; read end").await;
            let mut watching = Client::new(&session, viewer("sue", Role::Observer), None);
            watching.until("hello").await;
            client.until("hello").await;
            let both = Viewers { drivers: 1, observers: 1, moderators: 0 };
            while client.viewers != both {
                client.step().await;
            }
            while watching.viewers != both {
                watching.step().await;
            }
            drop(watching);
            while client.viewers.observers > 0 {
                client.step().await;
            }
        },
    );
}

#[test]
fn a_moderator_and_the_driver_may_end_it_and_an_observer_may_not() {
    on_a_place(
        |_| {},
        |mut place| async move {
            for (role, may) in [(Role::Observer, false), (Role::Moderator, true), (Role::Driver, true)] {
                let session = place.open(&["cat"]).await;
                let client = Client::new(&session, viewer("sue", role), None);
                if may {
                    client.attachment.end().unwrap();
                    assert_eq!(place.closed().await.reason, Reason::Ended);
                } else {
                    assert!(matches!(client.attachment.end(), Err(TerminalError::Role)));
                    assert!(place.terminals.session(session.id()).is_some(), "it goes on");
                }
            }
        },
    );
}

#[test]
fn there_is_one_driver_and_who_comes_back_takes_over_from_themselves_alone() {
    on_a_place(
        |_| {},
        |place| async move {
            let (session, mut client) = place.shell().await;
            assert!(matches!(session.attach(driver("bob"), None), Err(TerminalError::Driven)));
            let mut again = Client::new(&session, driver("ann"), Some(client.next));
            client.end().await;
            assert_eq!((client.errors.as_slice(), client.exit), (&["replaced".to_owned()][..], None));
            client.types("exit\r").await;
            again.types("echo al\"\"ive\r").await;
            again.until("alive").await;
            assert!(!again.text().contains("exit"));
            drop(again);
            drop(client);
            assert!(session.attach(driver("bob"), None).is_ok(), "the place is free");
        },
    );
}

/// T-03.
#[test]
fn a_viewer_whose_right_is_revoked_is_shown_out_and_the_session_goes_on() {
    on_a_place(
        |_| {},
        |place| async move {
            let (session, mut client) = place.shell().await;
            let mut watching = Client::new(&session, viewer("sue", Role::Observer), None);
            watching.until("prompt> ").await;
            place.terminals.dismiss_where(|viewer| viewer.who == "sue", Reason::Revoked);
            watching.end().await;
            assert_eq!(watching.errors, ["revoked"]);
            client.types("echo al\"\"ive\r").await;
            client.until("alive").await;
        },
    );
}

#[test]
fn there_are_as_many_viewers_as_there_may_be_and_each_frame_is_checked() {
    on_a_place(
        |settings| settings.viewers_per_session = 2,
        |place| async move {
            let (session, client) = place.shell().await;
            let watching = Client::new(&session, viewer("sue", Role::Observer), None);
            let refused = session.attach(viewer("sue", Role::Observer), None);
            assert!(matches!(refused, Err(TerminalError::TooManyViewers { limit: 2 })));
            drop(watching);
            assert!(session.attach(viewer("sue", Role::Observer), None).is_ok());
            let resume = ClientFrame::Resume { seq: 0, session: session.id() }.encode();
            assert_eq!(client.attachment.feed(&resume).await, Err(FrameError::LateResume));
            assert_eq!(client.attachment.feed(b"\x09").await, Err(FrameError::Unknown(9)));
        },
    );
}
