//! `kubectl deputy suspend`: creates AgentSuspensions.

use super::{ConnectionOptions, Session, Whom};
use crate::{
    api::v1alpha1::{AgentSuspension, AgentSuspensionSpec, RunningPods},
    plugin::{Line, Target, object_name},
};
use clap::{Args, ValueEnum};
use futures::{StreamExt as _, stream};

/// Suspensions that are written at a time.
const AT_A_TIME: usize = 8;

/// Longest reason and user name that a suspension may hold.
const LONGEST: usize = 1024;

#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    whom: Whom,
    /// Why, for whoever finds the agent stopped
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
    /// What becomes of the pods that run
    #[arg(long, ignore_case = true, value_enum, default_value_t)]
    pods: Pods,
    /// With --owner: in every namespace
    #[arg(short = 'A', long, requires = "owner", conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Also an agent that is not there yet
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    pub(super) connection: ConnectionOptions,
}

/// [`RunningPods`], as people type it.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum Pods {
    /// They end
    #[default]
    Delete,
    /// They are kept as evidence; their tokens die
    Retain,
}

impl From<Pods> for RunningPods {
    fn from(pods: Pods) -> Self {
        match pods {
            Pods::Delete => Self::Delete,
            Pods::Retain => Self::Retain,
        }
    }
}

fn reason(text: &str) -> Result<String, String> {
    match text.chars().count() {
        _ if text.trim().is_empty() => Err("say why, for whoever finds the agent stopped".to_owned()),
        length if length > LONGEST => Err(format!("{length} characters; at most {LONGEST} are kept")),
        _ => Ok(text.to_owned()),
    }
}

pub(super) async fn run(session: &Session, options: &Options, tell: &mut (dyn FnMut(Line) + Send)) {
    // Who cannot learn his name suspends all the same: off must not depend on it.
    let user = match session.user().await {
        Ok(user) if user.chars().count() <= LONGEST => Some(user),
        Ok(_) => {
            tell(Line::Warning(
                "your user name is too long for a suspension, which will name nobody".to_owned(),
            ));
            None
        }
        Err(failure) => {
            tell(Line::Warning(format!("the suspension will not say who asked for it: {failure}")));
            None
        }
    };
    if !(options.force || is_meant(session, &options.whom, tell).await) {
        return;
    }
    let targets = options.whom.targets(session, options.all_namespaces, tell).await;
    let mut lines = stream::iter(targets)
        .map(|target| suspend(session, target, user.as_deref(), &options.reason, options.pods.into()))
        .buffered(AT_A_TIME);
    while let Some(line) = lines.next().await {
        tell(line);
    }
}

/// Whether there is what is named: a slip of the pen must not read as an agent that is stopped. Somebody who may not see
/// identities may suspend them.
async fn is_meant(session: &Session, whom: &Whom, tell: &mut (dyn FnMut(Line) + Send)) -> bool {
    let namespace = &session.namespace;
    let (found, what) = match &whom.name {
        Some(name) => (
            session.identity(name).await.map(|identity| identity.is_some()),
            format!("AgentIdentity {name:?} in namespace {namespace}"),
        ),
        None if whom.all => {
            (session.has_identities().await, format!("AgentIdentity in namespace {namespace}"))
        }
        None => return true,
    };
    match found {
        Ok(true) => true,
        Ok(false) => {
            tell(Line::Failure(format!(
                "there is no {what}, and nothing was suspended; see `kubectl deputy status -A`, or give --force to suspend \
                 what is not there yet"
            )));
            false
        }
        Err(failure) => {
            tell(Line::Warning(format!("whether there is an {what} cannot be seen: {failure}")));
            true
        }
    }
}

/// Suspends one target.
async fn suspend(
    session: &Session,
    target: Target,
    user: Option<&str>,
    reason: &str,
    pods: RunningPods,
) -> Line {
    let name = object_name(target.agent.as_deref(), user);
    let spec = AgentSuspensionSpec {
        agent_name: target.agent.clone(),
        reason: reason.to_owned(),
        pods,
        requested_by: user.map(str::to_owned),
    };
    let mut suspension = AgentSuspension::new(&name, spec);
    let mut written = session.create(&target.namespace, &suspension).await;
    if written.as_ref().is_err_and(|failure| failure.is("AlreadyExists")) {
        let there = session.switch(&target.namespace, &name).await;
        if let (Ok(there), Some(user)) = (&there, user)
            && !there.deleting
            && there.is_of(&target, user)
            && (pods == RunningPods::Retain || there.suspension.pods == RunningPods::Delete)
        {
            return Line::Done(format!("{target} is suspended already, and stays so: {}", there.account()));
        }
        // Something else has the name, or is just going, or keeps the pods that are to end now: under any name, off is off.
        suspension.metadata.name = None;
        suspension.metadata.generate_name = Some(format!("{name}-"));
        written = session.create(&target.namespace, &suspension).await;
    }
    match written {
        Ok(name) => Line::Done(format!("{target} is suspended, by AgentSuspension {name:?}")),
        Err(failure) => Line::Failure(format!("{target} is NOT suspended: {failure}")),
    }
}
