//! Work that goes on beside the listeners until the process is told to end.

use std::pin::Pin;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::sync::watch;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A task as a service; it is given a future that resolves when it must end.
pub(crate) struct Beside {
    start: Box<dyn Fn(Task) -> Task + Send + Sync>,
    stop: watch::Receiver<bool>,
}

impl Beside {
    pub(crate) fn new<F>(stop: watch::Receiver<bool>, start: impl Fn(Task) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self { start: Box::new(move |stop| Box::pin(start(stop))), stop }
    }
}

#[async_trait]
impl BackgroundService for Beside {
    async fn start(&self, shutdown: ShutdownWatch) {
        let (mut own, mut servers) = (self.stop.clone(), shutdown);
        let stop = async move {
            tokio::select! {
                _ = own.wait_for(|stop| *stop) => {}
                _ = servers.wait_for(|stop| *stop) => {}
            }
        };
        (self.start)(Box::pin(stop)).await;
    }
}
