//! The kubectl plugin: with a person's kubeconfig and rights, on a person's machine.

mod can_i;
mod claims;
mod connection;
mod log;
mod resume;
mod session;
mod status;
mod suspend;

pub use session::Session;

use super::print;
use crate::{
    index::is_dns_label,
    plugin::{Line, Target, escaped},
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use connection::ConnectionOptions;
use kube::ResourceExt as _;
use std::io::{self, Write as _};

/// What kubectl looks for on the PATH.
pub(super) const NAME: &str = "kubectl-deputy";

/// Switch agents off and on again, and see how they stand.
#[derive(Debug, Parser)]
#[command(name = NAME, bin_name = "kubectl deputy", version, propagate_version = true)]
pub struct Plugin {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The plugin's commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Switch an agent off until it is resumed
    Suspend(Box<suspend::Options>),
    /// Switch an agent on again: delete the suspensions you asked for
    Resume(Box<resume::Options>),
    /// Show agents, who answers for them, and what suspends them
    Status(Box<status::Options>),
    /// Show who holds which static credential, and who waits for it
    Claims(Box<claims::Options>),
    /// Ask what an agent would be given at a resource, half by half; nothing is issued
    CanI(Box<can_i::Options>),
    /// Read what the broker has on record
    Log(Box<log::Options>),
}

/// Form of an answer.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// Whom a command is about.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Whom {
    /// Name of the agent
    #[arg(value_parser = agent_name)]
    name: Option<String>,
    /// Every agent of the namespace, those to come included
    #[arg(long)]
    all: bool,
    /// Every agent whose identity names this owner
    #[arg(long, value_name = "WHO")]
    owner: Option<String>,
}

fn agent_name(text: &str) -> Result<String, String> {
    if is_dns_label(text) {
        Ok(text.to_owned())
    } else {
        Err("an agent's name has at most 63 lower-case letters, digits and inner dashes".to_owned())
    }
}

impl Whom {
    /// The targets. What cannot be made out is told, and keeps none of the others from being one.
    async fn targets(
        &self,
        session: &Session,
        across: bool,
        tell: &mut (dyn FnMut(Line) + Send),
    ) -> Vec<Target> {
        let namespace = session.namespace.clone();
        let Some(owner) = &self.owner else { return vec![Target { namespace, agent: self.name.clone() }] };
        let (identities, failure) = session.identities(across).await;
        let mut targets = vec![];
        let some_failed = failure.is_some();
        if let Some(failure) = failure {
            tell(Line::Failure(format!("not every AgentIdentity could be listed: {failure}")));
        }
        for guard in identities {
            let (namespace, name) = (guard.namespace().unwrap_or_default(), guard.name_any());
            match guard.0 {
                Ok(identity) if identity.spec.owner == *owner => {
                    targets.push(Target { namespace, agent: Some(name) });
                }
                Ok(_) => {}
                Err(invalid) => tell(Line::Failure(format!(
                    "AgentIdentity {namespace}/{name} cannot be read, so whose it is is not known; name it yourself if it \
                     is meant: {invalid}"
                ))),
            }
        }
        if targets.is_empty() && !some_failed {
            let place = if across { "this cluster".to_owned() } else { format!("namespace {namespace}") };
            tell(Line::Failure(format!(
                "no AgentIdentity in {place} has the owner {owner:?}; see `kubectl deputy status -A`"
            )));
        }
        targets
    }
}

impl Command {
    fn connection(&self) -> &ConnectionOptions {
        match self {
            Self::Suspend(options) => &options.connection,
            Self::Resume(options) => &options.connection,
            Self::Status(options) => &options.connection,
            Self::Claims(options) => &options.connection,
            Self::CanI(options) => &options.connection,
            Self::Log(options) => options.connection(),
        }
    }

    /// Whether it changes nothing, and its exit status is an answer.
    fn is_question(&self) -> bool {
        matches!(self, Self::CanI(_) | Self::Log(_))
    }

    /// Does it, and tells what comes of it line by line.
    pub async fn perform(&self, session: &Session, tell: &mut (dyn FnMut(Line) + Send)) {
        match self {
            Self::Suspend(options) => suspend::run(session, options, tell).await,
            Self::Resume(options) => resume::run(session, options, tell).await,
            Self::Status(options) => status::run(session, options, tell).await,
            Self::Claims(options) => claims::run(session, options, tell).await,
            Self::CanI(options) => can_i::run(session, options, tell).await,
            Self::Log(options) => log::run(Some(session), options, tell).await,
        }
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ending {
    /// What was asked for is so.
    Whole,
    /// It is not, which was told.
    Failed,
    /// It cannot be known, which was told.
    Unknown,
}

/// Runs a command; an error is why nothing could be told.
pub(super) async fn run(command: Command) -> anyhow::Result<Ending> {
    let (mut ending, mut printed) = (Ending::Whole, Ok(()));
    let mut tell = |line: Line| {
        // A terminal that is gone is no reason to leave the rest undone.
        match line {
            Line::Data(text) => keep_first(&mut printed, print(&text)),
            Line::Done(text) => keep_first(&mut printed, print(&format!("{}\n", escaped(&text)))),
            Line::Warning(text) => _ = writeln!(io::stderr(), "warning: {}", escaped(&text)),
            Line::Failure(text) => {
                ending = ending.max(Ending::Failed);
                _ = writeln!(io::stderr(), "error: {}", escaped(&text));
            }
            Line::Unknown(text) => {
                ending = ending.max(Ending::Unknown);
                _ = writeln!(io::stderr(), "unknown: {}", escaped(&text));
            }
        }
    };
    if let Command::Log(options) = &command
        && options.is_offline()
    {
        log::run(None, options, &mut tell).await;
        return printed.map(|()| ending);
    }
    match command.connection().session().await {
        Ok(session) => command.perform(&session, &mut tell).await,
        Err(error) if command.is_question() => tell(Line::Unknown(format!("{error:#}"))),
        Err(error) => return Err(error),
    }
    printed.map(|()| ending)
}

fn keep_first(kept: &mut anyhow::Result<()>, next: anyhow::Result<()>) {
    if kept.is_ok() {
        *kept = next;
    }
}
