//! `kubectl deputy status`: how agents stand.

use super::{ConnectionOptions, Output, Session};
use crate::plugin::{Identity, Line, Report, Switch};
use clap::Args;

#[derive(Args, Debug)]
pub struct Options {
    /// Name of the agent
    #[arg(value_parser = super::agent_name)]
    name: Option<String>,
    /// Only agents whose identity names this owner
    #[arg(long, value_name = "WHO")]
    owner: Option<String>,
    /// In every namespace
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Form of the answer
    #[arg(short, long, default_value = "table")]
    output: Output,
    #[command(flatten)]
    pub(super) connection: ConnectionOptions,
}

pub(super) async fn run(session: &Session, options: &Options, tell: &mut (dyn FnMut(Line) + Send)) {
    let across = options.all_namespaces;
    let (identities, failure) = match &options.name {
        Some(name) if !across => match session.identity(name).await {
            Ok(found) => (found.into_iter().collect(), None),
            Err(failure) => (vec![], Some(failure)),
        },
        _ => session.identities(across).await,
    };
    let seen = failure.is_none();
    let identities = (seen || !identities.is_empty()).then_some(identities);
    if let Some(failure) = failure {
        tell(Line::Failure(format!("not every AgentIdentity can be seen: {failure}")));
    }
    let (switches, failure) = session.switches(across).await;
    // Some of them are not all: whether an agent is stopped is then unknown.
    let switches = failure.is_none().then_some(switches);
    if let Some(failure) = failure {
        tell(Line::Failure(format!("whether agents are suspended cannot be seen: {failure}")));
    }
    let (owner, name) = (options.owner.as_deref(), options.name.as_deref());
    let report = Report::new(identities, switches.as_deref(), owner, name);
    match options.output {
        Output::Json => match report.json() {
            Ok(json) => tell(Line::Data(json)),
            Err(error) => tell(Line::Failure(error.to_string())),
        },
        Output::Table if report.0.is_empty() => {}
        Output::Table => tell(Line::Data(report.table(across))),
    }
    for agent in &report.0 {
        if let Identity::Unreadable(why) = &agent.identity {
            let (namespace, name) = (&agent.namespace, &agent.name);
            tell(Line::Warning(format!("AgentIdentity {namespace}/{name} cannot be read: {why}")));
        }
    }
    if report.0.is_empty() && seen {
        let place =
            if across { "this cluster".to_owned() } else { format!("namespace {}", session.namespace) };
        match name {
            Some(name) => tell(Line::Failure(format!(
                "there is no AgentIdentity {name:?} in {place}; see `kubectl deputy status -A`"
            ))),
            None => tell(Line::Warning(format!("no such agents in {place}"))),
        }
    }
    for switch in switches.iter().flatten().filter(|switch| stops_nobody(switch, &report)) {
        let namespace = &switch.namespace;
        tell(Line::Warning(format!(
            "no agent is shown of namespace {namespace}, which {}",
            switch.account()
        )));
    }
}

/// Whether it is for every agent of a namespace of which none is shown.
fn stops_nobody(switch: &Switch, report: &Report) -> bool {
    switch.suspension.agent.is_none() && report.0.iter().all(|agent| agent.namespace != switch.namespace)
}
