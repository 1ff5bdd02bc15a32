//! What goes when a run is over, whether it ended, failed, was given up, or its gateway died.

use std::collections::HashMap;
use std::path::Path;

use bollard::Docker as Engine;
use bollard::errors::Error;
use bollard::query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::owner;
use super::spec::{INSTANCE, OWNER};
use crate::SandboxError;

/// Removes containers that nobody waits for any more.
#[derive(Debug)]
pub(super) struct Sweeper {
    abandoned: mpsc::UnboundedSender<String>,
    engine: Engine,
    /// Ends with the backend.
    _sweeping: JoinSet<()>,
}

/// A container that must not outlive this.
pub(super) struct Guard<'s> {
    sweeper: &'s Sweeper,
    name: Option<String>,
}

impl Sweeper {
    /// Starts to. Must be called within a tokio runtime.
    pub(super) fn start(engine: Engine) -> Self {
        let (abandoned, mut names) = mpsc::unbounded_channel::<String>();
        let mut sweeping = JoinSet::new();
        let theirs = engine.clone();
        sweeping.spawn(async move {
            while let Some(name) = names.recv().await {
                if let Err(error) = remove(&theirs, &name).await {
                    tracing::error!(%error, "a container that was given up could not be removed; it is swept when this gateway is gone");
                }
            }
        });
        Self { abandoned, engine, _sweeping: sweeping }
    }

    /// Sees to it that a container goes.
    pub(super) fn guard(&self, name: String) -> Guard<'_> {
        Guard { sweeper: self, name: Some(name) }
    }
}

impl Guard<'_> {
    /// Removes it, and answers when it is gone.
    pub(super) async fn remove(mut self) -> Result<(), SandboxError> {
        if let Some(name) = &self.name {
            remove(&self.sweeper.engine, name).await?;
        }
        self.name = None;
        Ok(())
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            // Where the sweeper is gone, so is the backend: the next start sweeps.
            let _gone = self.sweeper.abandoned.send(name);
        }
    }
}

/// Kills and removes one, with what it wrote. That there is none is fine.
async fn remove(engine: &Engine, name: &str) -> Result<(), SandboxError> {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    match engine.remove_container(name, Some(options)).await {
        Ok(()) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
        Err(error) => Err(SandboxError::Engine(format!("remove: {error}"))),
    }
}

/// Removes the containers and the directories of runs whose gateway is dead; how many containers went. Those of the living stay, as
/// of one that hands over to another.
pub(super) async fn left_behind(engine: &Engine, instance: &str, runs: &Path) -> Result<usize, SandboxError> {
    let filters = HashMap::from([("label", vec![format!("{INSTANCE}={instance}")])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let left =
        engine.list_containers(Some(options)).await.map_err(|error| SandboxError::Engine(format!("list: {error}")))?;
    let mut removed = 0;
    for container in left {
        let owner = container.labels.as_ref().and_then(|labels| labels.get(OWNER));
        let lives = owner.map_or(Ok(false), |owner| owner::lives(runs, owner)).map_err(SandboxError::Io)?;
        if let Some(id) = container.id.filter(|_| !lives) {
            remove(engine, &id).await?;
            removed += 1;
        }
    }
    owner::remove_dead(runs).map_err(SandboxError::Io)?;
    Ok(removed)
}
