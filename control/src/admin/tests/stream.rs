//! Answers of any size: bounded, whole or broken off, and never held up by a client that does not read.

use std::io::Write;
use std::time::Duration;

use axum::body::to_bytes;
use openclawmu_store::StoreError;

use crate::admin::AdminState;
use crate::admin::stream::{Kind, answer};
use crate::admin::tests::scene::Scene;

const MEGABYTE: usize = 1 << 20;

/// Writes a megabyte `times` times, then ends as told.
fn writing(times: usize, end: Result<(), StoreError>) -> impl FnOnce(&mut dyn Write) -> Result<(), StoreError> {
    move |to| {
        for _ in 0..times {
            to.write_all(&[b'x'; MEGABYTE]).map_err(|err| StoreError::Unavailable(err.to_string()))?;
        }
        end
    }
}

async fn answered(
    state: &AdminState,
    write: impl FnOnce(&mut dyn Write) -> Result<(), StoreError> + Send + 'static,
) -> Result<axum::response::Response, crate::admin::refusal::Refusal> {
    answer(state, Kind::csv("x.csv"), move |_, to| write(to)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_arrives_whole() {
    let scene = Scene::new().await;
    let response = answered(&scene.state, writing(10, Ok(()))).await.unwrap();
    assert_eq!(to_bytes(response.into_body(), 64 * MEGABYTE).await.unwrap().len(), 10 * MEGABYTE);
    let empty = answered(&scene.state, writing(0, Ok(()))).await.unwrap();
    assert_eq!(to_bytes(empty.into_body(), MEGABYTE).await.unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_before_the_first_chunk_is_a_refusal_and_a_later_one_breaks_the_body_off() {
    let scene = Scene::new().await;
    let refused = answered(&scene.state, writing(0, Err(StoreError::NotFound("tenant")))).await;
    assert!(refused.is_err());
    let response = answered(&scene.state, writing(2, Err(StoreError::Corrupt("broken".to_owned())))).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(to_bytes(response.into_body(), 64 * MEGABYTE).await.is_err(), "a shorter report is no report");
    let panicked = answered(&scene.state, |to: &mut dyn Write| {
        to.write_all(&[b'x'; MEGABYTE]).unwrap();
        panic!("on purpose")
    });
    assert!(to_bytes(panicked.await.unwrap().into_body(), 64 * MEGABYTE).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_cut_and_gives_its_place_back() {
    let scene = Scene::new().await;
    let mut state = scene.state.clone();
    state.patience = Duration::from_millis(1);
    let places = state.reports.available_permits();
    let responses =
        [answered(&state, writing(64, Ok(()))).await.unwrap(), answered(&state, writing(64, Ok(()))).await.unwrap()];
    let third = answered(&state, writing(0, Ok(()))).await;
    assert!(third.is_ok(), "a place became free without anything being read");
    let _all = state.reports.acquire_many(u32::try_from(places).unwrap()).await.unwrap();
    for response in responses {
        assert!(to_bytes(response.into_body(), 128 * MEGABYTE).await.is_err());
    }
}
