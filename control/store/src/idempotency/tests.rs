//! What holds for idempotency keys.

use std::sync::Barrier;

use super::*;
use crate::scene::{Scene, operator, tenant_id};
use crate::tenant::{NewTenant, Tenant};
use crate::token::{NewToken, PlainToken, Token};

type Created = (Tenant, Token, PlainToken);

/// Stands for the caller's encryption: the bytes only have to come back as they were.
fn seal((tenant, token, _): &Created) -> Result<StoredAnswer> {
    Ok(StoredAnswer { status: 201, sealed: format!("sealed {} {}", tenant.id, token.id).into_bytes() })
}

fn key(name: &str, hash: u8) -> Option<Idempotency<Created>> {
    Some(Idempotency::new(name, [hash; 32], seal).unwrap())
}

async fn create(scene: &Scene, name: &str, hash: u8) -> Result<Answered<Created>> {
    scene.store.create_tenant(&operator(), NewTenant::default(), NewToken::default()).once(key(name, hash)).await
}

fn tenants(scene: &Scene) -> usize {
    scene.store.tenants(None, 100).unwrap().len()
}

#[tokio::test]
async fn the_same_key_and_request_give_the_same_answer_and_one_change() {
    let scene = Scene::new();
    let Answered::Now(first) = create(&scene, "k", 1).await.unwrap() else { panic!("nothing was there") };
    let Answered::Before(answer) = create(&scene, "k", 1).await.unwrap() else { panic!("made twice") };
    assert_eq!(answer, seal(&first).unwrap());
    assert_eq!(scene.store.idempotent_answer("k", &[1; 32]).unwrap(), Some(answer.clone()));
    assert_eq!((tenants(&scene), scene.audit().len()), (1, 1));

    let scene = scene.restarted().unwrap();
    assert!(matches!(create(&scene, "k", 1).await.unwrap(), Answered::Before(kept) if kept == answer));
}

#[tokio::test]
async fn the_same_key_with_another_request_is_refused() {
    let scene = Scene::new();
    create(&scene, "k", 1).await.unwrap();
    assert!(matches!(create(&scene, "k", 2).await, Err(StoreError::KeyReused)));
    assert!(matches!(scene.store.idempotent_answer("k", &[2; 32]), Err(StoreError::KeyReused)));
    assert_eq!(scene.store.idempotent_answer("other", &[2; 32]).unwrap(), None);
    assert!(matches!(create(&scene, "other", 2).await.unwrap(), Answered::Now(_)));
}

#[tokio::test]
async fn an_answer_is_kept_for_a_day_and_then_swept() {
    let scene = Scene::new();
    create(&scene, "old", 1).await.unwrap();
    scene.move_ms(KEPT_MS - 1);
    assert!(scene.store.idempotent_answer("old", &[1; 32]).unwrap().is_some());
    scene.move_ms(1);
    assert_eq!(scene.store.idempotent_answer("old", &[1; 32]).unwrap(), None);
    create(&scene, "new", 1).await.unwrap();
    let kept: Vec<String> = scene
        .sql()
        .prepare("SELECT key FROM idempotency")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(std::result::Result::unwrap)
        .collect();
    assert_eq!(kept, ["new"]);
    assert!(matches!(create(&scene, "old", 2).await.unwrap(), Answered::Now(_)));
}

#[tokio::test]
async fn a_change_that_fails_keeps_no_answer() {
    let scene = Scene::new();
    scene.tenant("acme");
    let again = |id: &str| {
        let new = NewTenant { id: Some(tenant_id(id)), ..NewTenant::default() };
        scene.store.create_tenant(&operator(), new, NewToken::default())
    };
    assert!(matches!(again("acme").once(key("k", 1)).await, Err(StoreError::Conflict(_))));
    assert!(matches!(again("free").once(key("k", 2)).await, Ok(Answered::Now(_))));
    let unsealed =
        Idempotency::new("u", [1; 32], |_: &Created| Err(StoreError::Unavailable("no key".to_owned()))).unwrap();
    assert!(again("undone").once(Some(unsealed)).await.is_err());
    assert!(scene.store.tenant(&tenant_id("undone")).is_err(), "a change whose answer can't be kept does not happen");
    assert!(matches!(again("free2").once(None).await, Ok(Answered::Now(_))));
}

#[test]
fn of_many_concurrent_calls_with_one_key_one_makes_the_change() {
    let scene = Scene::new();
    for round in 0..10 {
        let name = format!("key {round}");
        let barrier = Barrier::new(8);
        let answers: Vec<Answered<Created>> = std::thread::scope(|threads| {
            let call = || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                barrier.wait();
                runtime.block_on(create(&scene, &name, 1)).unwrap()
            };
            let calls: Vec<_> = (0..8).map(|_| threads.spawn(call)).collect();
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        });
        let made: Vec<&Created> = answers
            .iter()
            .filter_map(|answer| if let Answered::Now(made) = answer { Some(made) } else { None })
            .collect();
        assert_eq!(made.len(), 1);
        let expected = seal(made[0]).unwrap();
        assert!(answers.iter().all(|answer| match answer {
            Answered::Before(kept) => *kept == expected,
            Answered::Now(_) => true,
        }));
        assert_eq!(tenants(&scene), round + 1);
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_finds_its_answer_when_it_comes_back() {
    let scene = Scene::new();
    let mut call = Box::pin(create(&scene, "k", 1));
    // One poll hands the change to the writer; the caller then drops the connection.
    let waker = std::task::Waker::noop();
    let mut context = std::task::Context::from_waker(waker);
    assert!(call.as_mut().poll(&mut context).is_pending());
    drop(call);
    scene.store.flush().await.unwrap();
    assert!(matches!(create(&scene, "k", 1).await.unwrap(), Answered::Before(_)));
    assert_eq!(tenants(&scene), 1);
}

#[test]
fn what_a_key_must_not_be() {
    for bad in ["", "x".repeat(256).as_str(), "a\nb", "é", "\0"] {
        assert!(matches!(Idempotency::new(bad, [0; 32], seal), Err(StoreError::Invalid { .. })), "{bad}");
    }
    assert!(Idempotency::new(&"x".repeat(255), [0; 32], seal).is_ok());
}
