//! An agent runs something in its tenant's sandbox: on the same way as the tenant itself.

use std::sync::Arc;
use std::time::Duration;

use openclawmu_control::run::{RunAnswer, RunRequest};
use openclawmu_store::{Label, RequestId};

use super::answer;
use super::ask::Ask;
use super::operator::ends;
use super::order::{Order, Owner};
use super::run::is_cut;
use crate::context::Shared;
use crate::refusal::Refusal;

/// Between two notes of what a run has used, which is what a crash bills.
const NOTE: Duration = Duration::from_secs(1);

/// Runs it to its end. Dropping what this gives ends the run, and settles what it used until then.
pub(crate) async fn run(
    shared: &Arc<Shared>,
    (owner, label): (Owner, Label),
    request_id: RequestId,
    request: RunRequest,
) -> Result<RunAnswer, Refusal> {
    let ask = Ask::of(request, &shared.rooms.config, &owner.tenant)?;
    let order = Order { owner, request_id, streams: false, label, ask };
    let (open, ready) = order.begin(shared).await?;
    let id = ready.id.clone();
    let mut run = Box::pin(ready.run(None));
    let mut cut = shared.cut.subscribe();
    let mut noted = tokio::time::interval(NOTE);
    let done = loop {
        tokio::select! {
            done = &mut run => break done,
            () = is_cut(&mut cut) => break Err(ends()),
            _ = noted.tick() => open.note(),
        }
    };
    drop(run);
    match done {
        Ok(done) => {
            open.done(&done.ran);
            Ok(answer::outcome(id, &done.ran, done.artifacts))
        }
        Err(refusal) => {
            open.refused(&refusal);
            Err(refusal)
        }
    }
}
