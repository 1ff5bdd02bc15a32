//! The floor: the least that a Pingora proxy can be. `upstream_peer` and no other hook, HTTP/1.1 on both
//! sides, Pingora's own defaults but for the number of threads. Never tuned: it is what the gateway is
//! measured against, and every gain here would be a gain that the gateway did not earn.

use std::net::SocketAddr;

use async_trait::async_trait;
use pingora::prelude::{HttpPeer, ProxyHttp, Result, Session, http_proxy_service};
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server};

/// How the floor is set up.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9102")]
    pub(crate) listen: SocketAddr,
    /// Where every request goes.
    #[arg(long, default_value = "127.0.0.1:9101")]
    pub(crate) upstream: SocketAddr,
    /// Worker threads, as many as the gateway's `[edge] threads`.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
}

struct Floor {
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Floor {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }
}

/// Serves until SIGTERM or SIGINT.
pub(crate) fn serve(options: &Options) {
    let conf = ServerConf {
        threads: options.threads,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Floor { upstream: options.upstream });
    service.add_tcp(&options.listen.to_string());
    server.add_service(service);
    server.run(RunArgs::default());
}
