//! The command line, and a composition root for each role: the only places that construct what lives long.

mod controller;
mod crds;
mod rules;
mod webhook;

use crate::{
    identity::TrustDomain,
    index::ReservedAudiences,
    runtime::{audiences, log},
};
use clap::{Args, Parser, Subcommand};
use kube::Client;
use std::{net::SocketAddr, path::Path, process::ExitCode};

/// An identity of its own for every AI agent on Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "deputy", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Reconcile AgentIdentities into ServiceAccounts, and keep the webhook's certificates
    Controller(controller::Options),
    /// Admit agents' pods
    Webhook(webhook::Options),
    /// Print the CustomResourceDefinitions
    Crds(crds::Options),
    /// Print the rules pods are held to
    Rules(rules::Options),
    /// Print the version
    Version,
}

/// What both roles that live in a cluster are told.
#[derive(Args, Debug)]
struct ProcessOptions {
    /// Namespace this process runs in
    #[arg(long, env = "POD_NAMESPACE")]
    namespace: String,
    /// What the names of the release's objects begin with
    #[arg(long, default_value = "deputy")]
    fullname: String,
    /// Where /livez, /readyz and /metrics are served
    #[arg(long, default_value = "0.0.0.0:8080")]
    admin_address: SocketAddr,
    /// SPIFFE trust domain of the cluster's principals
    #[arg(long, default_value = "cluster.local")]
    trust_domain: TrustDomain,
    /// An audience of the API server; by default those of this pod's own token
    #[arg(long = "api-audience", value_name = "AUDIENCE")]
    api_audiences: Vec<String>,
    /// Form of log lines
    #[arg(long, default_value = "json")]
    log_format: log::Format,
    /// Which log lines are written, as a tracing filter
    #[arg(long, default_value = "info")]
    log_level: String,
}

impl ProcessOptions {
    fn reserved_audiences(&self) -> Result<ReservedAudiences, audiences::Error> {
        if self.api_audiences.is_empty() {
            Ok(audiences::read(Path::new(audiences::TOKEN_PATH))?.into_iter().collect())
        } else {
            Ok(self.api_audiences.iter().cloned().collect())
        }
    }
}

impl Cli {
    /// Runs the command, and says how the process should end.
    pub fn run(self) -> ExitCode {
        let result = match self.command {
            Command::Controller(options) => block_on(controller::run(options)),
            Command::Webhook(options) => block_on(webhook::run(options)),
            Command::Crds(options) => crds::print(&options),
            Command::Rules(options) => {
                rules::print(&options);
                Ok(())
            }
            Command::Version => {
                println!("deputy {}", env!("CARGO_PKG_VERSION"));
                Ok(())
            }
        };
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("deputy: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}

fn block_on(role: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(role)
}

/// A client for the API server: the pod's own account in a cluster, else the person's kubeconfig.
async fn client() -> anyhow::Result<Client> {
    use anyhow::Context as _;
    Client::try_default().await.context("no way to reach a Kubernetes API server")
}
