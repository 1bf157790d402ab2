//! What roles that answer over TLS have in common: when they begin, and how they leave.

use crate::runtime::{server, shutdown, tls};
use axum::Router;
use axum_server::Handle;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::sync::watch;

/// A role's endpoint.
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    pub(super) router: Router,
    pub(super) resolver: Arc<tls::Resolver>,
    /// Whether the index is complete: before, every agent would look unknown, and nothing is answered.
    pub(super) is_synced: watch::Receiver<bool>,
    /// Turns false when the process is asked to stop.
    pub(super) serving: watch::Sender<bool>,
    /// How long to go on after that, until endpoints no longer name this pod.
    pub(super) drain: Duration,
}

impl Endpoint {
    /// Serves until asked to stop, and then until what is open is finished.
    pub(super) async fn serve(self) -> anyhow::Result<()> {
        let Self { address, router, resolver, mut is_synced, serving, drain } = self;
        let (is_serving, handle) = (serving.subscribe(), Handle::new());
        let mut staying = serving.subscribe();
        let answering = async {
            tokio::select! {
                synced = is_synced.wait_for(|synced| *synced) => synced.map(drop)?,
                leaving = staying.wait_for(|serving| !serving) => return Ok(leaving.map(drop)?),
            }
            let config = tls::server_config(resolver)?;
            let bounds = server::Bounds::default();
            server::serve_tls(address, config, router, bounds, is_serving, handle.clone()).await?;
            anyhow::Ok(())
        };
        let stop = async {
            shutdown::requested().await?;
            tracing::info!(drain_seconds = drain.as_secs(), "asked to stop");
            serving.send_replace(false);
            tokio::time::sleep(drain).await;
            handle.graceful_shutdown(Some(server::GRACE));
            anyhow::Ok(())
        };
        tokio::try_join!(answering, stop).map(drop)
    }
}
