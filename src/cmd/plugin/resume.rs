//! `kubectl deputy resume`: deletes AgentSuspensions, and says what still stops the agent.

use super::{ConnectionOptions, Session, Whom};
use crate::plugin::{Line, Switch, Target, Whose};
use clap::Args;

#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    whom: Whom,
    /// With --owner: in every namespace
    #[arg(short = 'A', long, requires = "owner", conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Also the suspensions that others asked for
    #[arg(long)]
    by_anyone: bool,
    #[command(flatten)]
    pub(super) connection: ConnectionOptions,
}

pub(super) async fn run(session: &Session, options: &Options, tell: &mut (dyn FnMut(Line) + Send)) {
    let user = if options.by_anyone {
        None
    } else {
        match session.user().await {
            Ok(user) => Some(user),
            Err(failure) => {
                return tell(Line::Failure(format!(
                    "which suspensions are yours is not known, and none was deleted; --by-anyone deletes everybody's: \
                     {failure}"
                )));
            }
        }
    };
    let whose = user.as_deref().map_or(Whose::Anyones, Whose::Own);
    let across = options.all_namespaces;
    let targets = options.whom.targets(session, across, tell).await;
    if targets.is_empty() {
        return;
    }
    let (before, failure) = session.switches(across).await;
    if let Some(failure) = failure {
        tell(Line::Failure(format!("not every AgentSuspension could be listed: {failure}")));
    }
    let mut resumed = vec![];
    for target in &targets {
        for switch in before.iter().filter(|switch| switch.goes_with(target, whose)) {
            let name = format!("{}/{}", switch.namespace, switch.suspension.name);
            match session.delete(switch).await {
                Ok(()) => {
                    tell(Line::Done(format!("AgentSuspension {name} is deleted")));
                    resumed.push(target);
                }
                Err(failure) => {
                    tell(Line::Failure(format!("AgentSuspension {name} is not deleted: {failure}")))
                }
            }
        }
    }
    // What still stops them is asked and not concluded.
    let (after, failure) = session.switches(across).await;
    if let Some(failure) = failure {
        return tell(Line::Failure(format!(
            "whether anything else stops the agents cannot be seen: {failure}"
        )));
    }
    for target in &targets {
        let left: Vec<_> = after.iter().filter(|switch| switch.stops(target)).collect();
        if left.is_empty() {
            tell(ended(session, target, resumed.contains(&target)).await);
        }
        for switch in left {
            let (account, remedy) = (switch.account(), switch.remedy(target));
            tell(Line::Failure(format!("{target} is STILL suspended, by {account}; to end it: {remedy}")));
        }
        if target.agent.is_none() {
            for line in after.iter().filter(|switch| switch.namespace == target.namespace).filter_map(single)
            {
                tell(line);
            }
        }
    }
}

/// Nothing stops the target, as far as suspensions go.
async fn ended(session: &Session, target: &Target, resumed: bool) -> Line {
    if resumed {
        return Line::Done(format!("{target} is not suspended any more"));
    }
    // A slip of the pen must not read as an agent that runs.
    match &target.agent {
        Some(name) if target.namespace == session.namespace => match session.identity(name).await {
            Ok(None) => Line::Failure(format!(
                "there is no AgentIdentity {name:?} in namespace {}, and nothing was resumed; see `kubectl deputy status -A`",
                target.namespace
            )),
            _ => Line::Done(format!("{target} was not suspended")),
        },
        _ => Line::Done(format!("{target} was not suspended")),
    }
}

/// An agent that stays off by itself while its namespace is switched on.
fn single(switch: &Switch) -> Option<Line> {
    let name = switch.suspension.agent.as_ref()?;
    let target = Target { namespace: switch.namespace.clone(), agent: Some(name.clone()) };
    Some(Line::Warning(format!("{target} stays suspended, by {}", switch.account())))
}
