//! Which hosts are reached, and by which address.

use std::sync::atomic::Ordering;

use openclawmu_sandbox::egress::{Decision, Reason};

use crate::scene::{ALLOWED, NEIGHBOUR, Scene};

///
#[tokio::test]
async fn an_allowed_host_works_and_another_host_or_port_is_403() {
    let scene = Scene::new().await;
    let port = scene.port;
    assert!(scene.works(ALLOWED).await && scene.works("a.wild.test").await);
    let other = port.wrapping_add(1).max(1);
    for refused in [
        format!("{ALLOWED}:{other}"),
        format!("{NEIGHBOUR}:{port}"),
        format!("wild.test:{port}"),
        format!("evil{ALLOWED}:{port}"),
        format!("{ALLOWED}.evil.test:{port}"),
    ] {
        assert_eq!(scene.status_of(&refused).await, "HTTP/1.1 403 Forbidden", "{refused}");
        let last = scene.told.all().pop().unwrap();
        assert_eq!((format!("{}:{}", last.0, last.1), last.2), (refused, Decision::Denied(Reason::NotListed)));
    }
}

/// no address is a name, whatever the resolver would make of it.
#[tokio::test]
async fn an_address_in_any_form_is_403_and_nobody_is_asked() {
    let scene = Scene::new().await;
    let forms = "127.0.0.1 2130706433 0177.0.0.1 017700000001 0x7f000001 0x7f.0.0.1 127.1 127.0.0.1. [::1] \
        [::ffff:127.0.0.1] [::ffff:7f00:1] [0:0:0:0:0:ffff:127.0.0.1] 169.254.169.254";
    for form in forms.split_whitespace() {
        scene.names.set(form, &[&["127.0.0.1"]]);
        assert_eq!(scene.status_of(&format!("{form}:{}", scene.port)).await, "HTTP/1.1 403 Forbidden", "{form}");
    }
    assert_eq!((scene.names.asked.load(Ordering::SeqCst), scene.host.connections.load(Ordering::SeqCst)), (0, 0));
    assert!(scene.works(ALLOWED).await, "the same host by its name");
}

/// what a listed name leads to is judged at every connection, all of it.
#[tokio::test]
async fn a_listed_name_that_leads_inside_is_403() {
    let scene = Scene::new().await;
    let public = format!("public.test:{}", scene.port);
    for answer in [
        &["127.0.0.1"][..],
        &["::1"],
        &["::ffff:127.0.0.1"],
        &["64:ff9b::7f00:1"],
        &["169.254.169.254"],
        &["fd00:ec2::254"],
        &["10.0.0.1"],
        &["100.100.100.200"],
        // Rebinding: one outside, one inside.
        &["8.8.8.8", "127.0.0.1"],
    ] {
        scene.names.set("public.test", &[answer]);
        assert_eq!(scene.status_of(&public).await, "HTTP/1.1 403 Forbidden", "{answer:?}");
        assert_eq!(scene.told.denials().pop(), Some(Reason::NotPublic), "{answer:?}");
    }
    assert_eq!(scene.host.connections.load(Ordering::SeqCst), 0);
    // The twin: a host that the operator lists as internal may be there.
    assert!(scene.works(ALLOWED).await);
}

/// rebinding between the check and the use.
#[tokio::test]
async fn a_name_is_resolved_once_for_each_connection_and_that_address_is_used() {
    let scene = Scene::new().await;
    // Whoever asks twice is sent to where nobody listens.
    scene.names.set(ALLOWED, &[&["127.0.0.1"], &["127.0.0.2"]]);
    assert!(scene.works(ALLOWED).await);
    assert_eq!(scene.names.asked.load(Ordering::SeqCst), 1);
    assert_eq!(scene.status_of(&format!("{ALLOWED}:{}", scene.port)).await, "HTTP/1.1 502 Bad Gateway");
}

#[tokio::test]
async fn a_host_with_several_addresses_is_reached_by_one_that_answers() {
    let scene = Scene::new().await;
    scene.names.set(ALLOWED, &[&["127.0.0.2", "127.0.0.1"]]);
    assert!(scene.works(ALLOWED).await);
    let allowed = scene.told.until(|decision| matches!(decision, Decision::Allowed { .. })).await;
    assert_eq!(allowed, Decision::Allowed { address: "127.0.0.1".parse().unwrap() });
}

#[tokio::test]
async fn a_name_that_leads_nowhere_is_502() {
    let scene = Scene::new().await;
    assert_eq!(scene.status_of(&format!("public.test:{}", scene.port)).await, "HTTP/1.1 502 Bad Gateway");
    assert_eq!(scene.told.denials(), [Reason::Unreachable]);
}
