//! The command line, and a composition root for each role: the only places that construct what lives long.

mod broker;
mod controller;
mod crds;
pub mod plugin;
mod rules;
mod scan;
mod serving;
mod settings;
mod view;
mod webhook;

use crate::{
    identity::TrustDomain,
    index::{Declarable, ReservedAudiences},
    plugin::escaped,
    runtime::{audiences, freshness, log},
};
use clap::{Args, Parser, Subcommand};
use std::{
    ffi::{OsStr, OsString},
    io::{self, Write as _},
    net::SocketAddr,
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

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
    Controller(Box<controller::Options>),
    /// Exchange a user's token and an agent's for a narrower one
    Broker(Box<broker::Options>),
    /// Admit agents' pods
    Webhook(Box<webhook::Options>),
    /// Print the CustomResourceDefinitions
    Crds(crds::Options),
    /// Print the rules pods are held to
    Rules(rules::Options),
    /// Judge manifests as the webhook would, without a cluster
    Scan(Box<scan::Options>),
    /// Print the version
    Version,
    #[command(flatten)]
    Plugin(plugin::Command),
}

/// What all roles that live in a cluster are told.
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
    /// An annotation by which an identity's account may be mapped to a role of a cloud
    #[arg(long = "cloud-role-annotation", value_name = "KEY")]
    cloud_role_annotations: Vec<String>,
    /// Form of log lines
    #[arg(long, default_value = "json")]
    log_format: log::Format,
    /// Which log lines are written, as a tracing filter
    #[arg(long, default_value = "info")]
    log_level: String,
}

/// How a replica that permits things proves that it sees the cluster as it is.
#[derive(Args, Debug)]
struct FreshnessOptions {
    /// Name of this pod, and of the Lease it renews to prove that it sees the cluster as it is
    #[arg(long, env = "POD_NAME", default_value = "deputy")]
    pod_name: String,
    /// uid of this pod: its Lease goes when it does
    #[arg(long, env = "POD_UID")]
    pod_uid: Option<String>,
    /// Seconds between two renewals of the Lease
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=30))]
    lease_renewal_seconds: u64,
    /// Seconds that the view of the cluster may be old; beyond, nothing is permitted
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=60))]
    freshness_bound_seconds: u64,
}

impl FreshnessOptions {
    fn config(
        &self,
        process: &ProcessOptions,
        field_manager: &'static str,
    ) -> anyhow::Result<freshness::Config> {
        let renewal = Duration::from_secs(self.lease_renewal_seconds);
        let bound = Duration::from_secs(self.freshness_bound_seconds);
        anyhow::ensure!(
            bound >= 2 * renewal,
            "--freshness-bound-seconds must be at least twice --lease-renewal-seconds, or every hiccup stops permits"
        );
        Ok(freshness::Config {
            namespace: process.namespace.clone(),
            pod: self.pod_name.clone(),
            pod_uid: self.pod_uid.clone(),
            field_manager,
            renewal,
            bound,
        })
    }
}

impl ProcessOptions {
    /// What identities may declare where the broker, if there is one, is `issuer`.
    fn declarable(&self, issuer: Option<&str>) -> anyhow::Result<Declarable> {
        let reserved = self.reserved_audiences()?;
        anyhow::ensure!(
            issuer.is_none_or(|issuer| !reserved.contains(issuer)),
            "--issuer is an audience of the API server, which would take the broker's tokens for its own; give the broker \
             another issuer (chart value broker.issuer)"
        );
        Ok(Declarable {
            reserved,
            cloud_role_annotations: Arc::new(self.cloud_role_annotations.iter().cloned().collect()),
            issuer: issuer.map(Arc::from),
        })
    }

    fn reserved_audiences(&self) -> Result<ReservedAudiences, audiences::Error> {
        if self.api_audiences.is_empty() {
            Ok(audiences::read(Path::new(audiences::TOKEN_PATH))?.into_iter().collect())
        } else {
            Ok(self.api_audiences.iter().cloned().collect())
        }
    }
}

/// Reads the broker's issuer: the text itself is what tokens name, so that there is one way to write it.
fn issuer(text: &str) -> Result<String, &'static str> {
    let rest = text.strip_prefix("https://").ok_or("is not an https URL")?;
    let odd = |c: char| c.is_whitespace() || c.is_control() || "?#@".contains(c);
    if rest.is_empty() || rest.starts_with('/') || text.len() > 512 {
        Err("has no host, or more than 512 bytes")
    } else if rest.ends_with('/') || rest.contains(odd) {
        Err("has a user, a query, a fragment or white space, or a slash at its end; leave them out")
    } else {
        Ok(text.to_owned())
    }
}

impl Cli {
    /// Reads the command line. Under the name that kubectl looks for, the program is the plugin alone; a command line that
    /// is none ends the process with what is wrong.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Self {
        let arguments: Vec<_> = arguments.into_iter().collect();
        let called = arguments.first().map(Path::new).and_then(Path::file_stem);
        if called == Some(OsStr::new(plugin::NAME)) {
            Self { command: Command::Plugin(plugin::Plugin::parse_from(arguments).command) }
        } else {
            Self::parse_from(arguments)
        }
    }

    /// Runs the command, and says how the process should end.
    pub fn run(self) -> ExitCode {
        let result = match self.command {
            Command::Controller(options) => block_on(controller::run(*options)),
            Command::Broker(options) => block_on(broker::run(*options)),
            Command::Webhook(options) => block_on(webhook::run(*options)),
            Command::Crds(options) => crds::text(&options).and_then(|text| print(&text)),
            Command::Rules(options) => print(&rules::text(&options)),
            Command::Scan(options) => match scan::run(&options) {
                Ok(code) => return code,
                Err(error) => {
                    _ = writeln!(io::stderr(), "deputy: {}", escaped(&format!("{error:#}")));
                    return ExitCode::from(2);
                }
            },
            Command::Version => print(&format!("deputy {}\n", env!("CARGO_PKG_VERSION"))),
            Command::Plugin(command) => match block_on(plugin::run(command)) {
                Ok(plugin::Ending::Whole) => Ok(()),
                // It has been told.
                Ok(plugin::Ending::Failed) => return ExitCode::FAILURE,
                Ok(plugin::Ending::Unknown) => return ExitCode::from(2),
                Err(error) => Err(error),
            },
        };
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // Its parts may hold what somebody wrote, and standard error may be closed.
                _ = writeln!(io::stderr(), "deputy: {}", escaped(&format!("{error:#}")));
                ExitCode::FAILURE
            }
        }
    }
}

/// Writes to standard output. A reader that has seen enough, such as `head`, is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn block_on<T>(role: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(role)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_written_in_one_way() {
        for good in ["https://deputy-broker.deputy-system.svc", "https://x.example.com:8443/deputy"] {
            assert_eq!(issuer(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "http://x",
            "https://",
            "https:///x",
            "https://x/",
            "https://u@x",
            "https://x?y",
            "https://x y",
        ] {
            assert!(issuer(bad).is_err(), "{bad}");
        }
    }
}
