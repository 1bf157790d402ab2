//! The driver: validate → build → apply → status, for one identity at a time.
//!
//! Everything is level-triggered: a reconcile looks at the account as it is now and writes only what differs. Nothing is
//! polled; [`super::triggers`] says when to look.

use super::{
    account::{self, Plan},
    bundle,
    claims::{self, Holdings},
    context::Context,
    credentials::{self, Credentials},
    ending::{Ended, Ender},
    events::{self, Happening},
    fate::{self, Switch},
    gates,
    pods::Agent,
    refusal,
    retries::Declared,
    status::{self, Circumstances, Hindrance, Made, Of, Outcome},
    writing,
};
use crate::{
    api::{
        FIELD_MANAGER,
        condition::{CREDENTIALS_EXPIRING, READY, reason},
        v1alpha1::{AgentIdentity, AgentIdentityStatus},
    },
    identity::account_name,
    index::{Identity, Suspension},
    runtime::clock,
};
use k8s_openapi::{
    api::core::v1::{ObjectReference, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
    core::{ApiResource, DeserializeGuard},
    runtime::controller::Action,
};
use serde_json::json;
use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// An identity as it is watched: one that cannot be decoded must not stop the others.
pub(super) type Guarded = DeserializeGuard<AgentIdentity>;

/// How long after a suspension was seen its agent's account is replaced. The API server takes a few tenths of a second to hold
/// token requests against it; a token issued for the new account before that would outlive the switch.
const POLICY_LAG: Duration = Duration::from_secs(1);

/// How often a ConfigMap that is somebody else's is looked at: only those of our own are watched.
const RECHECK: Duration = Duration::from_secs(60);

/// The longest pause a reconcile is put off by: timers are not made for years.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Which step failed. All of them are tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot read the account: {0}")]
    ReadAccount(#[source] kube::Error),
    #[error("cannot write the account: {0}")]
    WriteAccount(#[source] kube::Error),
    #[error("cannot read the ConfigMap: {0}")]
    ReadBundle(#[source] kube::Error),
    #[error("cannot write the ConfigMap: {0}")]
    WriteBundle(#[source] kube::Error),
    #[error("cannot read the identity: {0}")]
    ReadIdentity(#[source] kube::Error),
    #[error("cannot list the pods that use a credential: {0}")]
    ListPods(#[source] kube::Error),
    #[error("cannot lift the gate of a pod: {0}")]
    LiftGate(#[source] kube::Error),
    #[error("cannot end its pods: {0}")]
    EndPods(#[source] kube::Error),
    #[error("cannot write the status: {0}")]
    WriteStatus(#[source] kube::Error),
}

impl Error {
    fn source(&self) -> &kube::Error {
        match self {
            Self::ReadAccount(e)
            | Self::WriteAccount(e)
            | Self::ReadBundle(e)
            | Self::WriteBundle(e)
            | Self::ReadIdentity(e)
            | Self::ListPods(e)
            | Self::LiftGate(e)
            | Self::EndPods(e)
            | Self::WriteStatus(e) => e,
        }
    }

    /// Whether the object or its namespace is on its way out, so that there is nothing left to do.
    fn is_moot(&self) -> bool {
        matches!(self.source(), kube::Error::Api(status) if refusal::is_moot(status))
    }
}

/// What an identity is called, readable or not.
struct Subject<'a> {
    meta: &'a ObjectMeta,
    agent: Agent,
}

impl<'a> Subject<'a> {
    fn of(guard: &'a Guarded) -> Self {
        let meta = guard.meta();
        let agent = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
        Self { meta, agent }
    }

    fn declared(&self) -> Declared {
        (self.meta.uid.clone(), self.meta.generation)
    }

    fn reference(&self) -> ObjectReference {
        events::reference(&self.agent, self.meta.uid.as_ref())
    }
}

/// Brings one identity's account and status to what they should be.
pub(super) async fn reconcile(guard: Arc<Guarded>, context: Arc<Context>) -> Result<Action, Error> {
    let started = Instant::now();
    let subject = Subject::of(&guard);
    let result = match run(&guard, &subject, &context).await {
        Err(error) if error.is_moot() => {
            tracing::debug!(%error, "nothing left to do");
            // It may have gone while we looked at it, and its deletion been seen before we counted it.
            context.forget(&subject.agent);
            Ok(Next::Change)
        }
        other => other,
    };
    let word = match &result {
        Ok(Next::Change | Next::Soon(_)) => "success",
        Ok(Next::Retry(_)) => "refused",
        Err(_) => "error",
    };
    context.metrics.reconciled(word, started.elapsed());
    let next = result?;
    if !matches!(next, Next::Retry(_)) {
        context.retries().forget(&subject.agent);
    }
    Ok(match next {
        Next::Change => Action::await_change(),
        Next::Soon(pause) | Next::Retry(pause) => Action::requeue(pause),
    })
}

/// When to look at an identity again, if nothing changes before.
enum Next {
    /// Not before something changes, and that is watched.
    Change,
    /// When it is time for the next step.
    Soon(Duration),
    /// When what was refused may be tried again.
    Retry(Duration),
}

/// What failed is tried again after a pause that grows.
pub(super) fn error_policy(guard: Arc<Guarded>, error: &Error, context: Arc<Context>) -> Action {
    let Subject { meta, agent } = Subject::of(&guard);
    tracing::warn!(namespace = meta.namespace, name = meta.name, %error, "reconcile failed and will be tried again");
    Action::requeue(context.retries().failed(&agent))
}

/// Pods that may not go on are ended first: that waits for nothing, and whatever else fails does not keep it from being done.
async fn run(guard: &Guarded, subject: &Subject<'_>, context: &Context) -> Result<Next, Error> {
    let snapshot = context.suspensions.lock().unwrap_or_else(PoisonError::into_inner).snapshot();
    let (namespace, name) = &subject.agent;
    let suspensions: Vec<_> = snapshot.suspensions(namespace, name).collect();
    let lag = context
        .handled()
        .switch(&subject.agent, &suspensions, Instant::now())
        .map(|since| POLICY_LAG.saturating_sub(since.elapsed()));
    let ended = end_pods(&suspensions, subject, context).await;
    let next = bring_about(guard, &suspensions, lag, subject, context).await?;
    ended.map(|()| next)
}

/// Ends the pods that the agent may not have.
async fn end_pods(
    suspensions: &[&Suspension],
    subject: &Subject<'_>,
    context: &Context,
) -> Result<(), Error> {
    let (agent, living) = (&subject.agent, subject.meta.uid.as_deref());
    let is_due = {
        let pods = context.pods.lock().unwrap_or_else(PoisonError::into_inner);
        context.handled().is_open(agent, &pods)
            || living.is_some_and(|living| pods.has_predecessors(agent, living))
    };
    if !is_due {
        return Ok(());
    }
    let switch = Switch::of(suspensions);
    let ender = Ender { client: &context.client, pages: &context.pages, metrics: &context.metrics };
    let lives = || async {
        let identity = raw(subject, context.client.clone()).get_opt(&agent.1).await?;
        Ok(identity.is_some_and(|identity| identity.metadata.uid == subject.meta.uid))
    };
    let (ended, result) = ender.end(agent, |pod| fate::fate(pod, living, switch), lives).await;
    let Ended { seen, evicted, deleted, predecessors } = ended;
    if evicted + deleted + predecessors > 0 {
        let happening = Happening::PodsEnded { evicted, deleted, predecessors };
        context.events.publish(&subject.reference(), happening).await;
    }
    result.map_err(Error::EndPods)?;
    context.handled().done(agent, seen);
    Ok(())
}

/// Brings account and status about; `lag` is for how long yet a suspended agent's account is left.
async fn bring_about(
    guard: &Guarded,
    suspensions: &[&Suspension],
    lag: Option<Duration>,
    subject: &Subject<'_>,
    context: &Context,
) -> Result<Next, Error> {
    if subject.meta.deletion_timestamp.is_some() {
        return Ok(Next::Change);
    }
    let wait = lag.filter(|lag| !lag.is_zero());
    let namespace = &subject.agent.0;
    let now = clock::now();
    let (outcome, credentials, previous) = match &guard.0 {
        Ok(object) => {
            let (outcome, credentials) = match Identity::validate(object, &context.config.declarable) {
                Ok(identity) => {
                    let holdings = context.claims.holdings(&identity);
                    let outcome =
                        make(&identity, &holdings, suspensions, wait.is_some(), subject, context).await?;
                    (outcome, look_at_credentials(&identity, &holdings, now, context).await?)
                }
                Err(invalid) => {
                    switch_off(suspensions, wait.is_some(), subject, context).await?;
                    (Outcome::invalid(&invalid), Credentials::default())
                }
            };
            (outcome, credentials, object.status.clone())
        }
        Err(unreadable) => {
            let message = format!("the object cannot be read: {}", unreadable.error);
            switch_off(suspensions, wait.is_some(), subject, context).await?;
            let outcome = Outcome::Invalid(reason::INVALID, message);
            (outcome, Credentials::default(), stored_status(subject, context).await?)
        }
    };
    let (counts, gated) = context.pods(&subject.agent);
    let suspension = suspensions.first().copied();
    if suspension.is_none() {
        gates::lift(&context.client, namespace, &gated, &context.metrics).await.map_err(Error::LiftGate)?;
    }
    let of = Of { namespace: &subject.agent.0, name: &subject.agent.1, generation: subject.meta.generation };
    let domain = &context.config.trust_domain;
    let circumstances = Circumstances { credentials: &credentials, suspension, pods: counts };
    let next = status::status(of, &outcome, circumstances, domain, previous.as_ref(), &Time(now));
    context.count(&subject.agent, &next);
    if previous.as_ref() != Some(&next) {
        write_status(subject, context, &next).await?;
        tell(previous.as_ref(), &next, subject, context).await;
    }
    Ok(match (&outcome, wait) {
        (Outcome::Hindered { by: Hindrance::Refused(made, _), .. }, wait) => {
            let pause = context.pause(*made, &subject.agent);
            Next::Retry(wait.map_or(pause, |wait| wait.min(pause)))
        }
        (_, Some(wait)) => Next::Soon(wait),
        (Outcome::Hindered { by: Hindrance::Taken(Made::ConfigMap), .. }, None) => Next::Soon(RECHECK),
        (_, None) => credentials.next_change.map_or(Next::Change, |change| Next::Soon(change.min(LONGEST))),
    })
}

/// Brings about what is made for an identity. The ConfigMap comes first, and a new account waits for it: a pod waits for the
/// account at admission, and would wait for the ConfigMap on its node, where Kubernetes takes its time. An account that is
/// there does not depend on it: it may have to be replaced.
async fn make(
    identity: &Identity,
    holdings: &Holdings,
    suspensions: &[&Suspension],
    early: bool,
    subject: &Subject<'_>,
    context: &Context,
) -> Result<Outcome, Error> {
    let bundle = bundle::keep(identity, &subject.agent, &subject.declared(), context).await;
    let is_known = matches!(bundle, Ok(None));
    let outcome = apply(identity, holdings, suspensions, (early, is_known), subject, context).await?;
    Ok(outcome.but_for(bundle?))
}

/// What there is to say of the credentials: which are held, and which end.
async fn look_at_credentials(
    identity: &Identity,
    holdings: &Holdings,
    now: Timestamp,
    context: &Context,
) -> Result<Credentials, Error> {
    let mut ends = vec![];
    for ending in credentials::ending(&identity.credentials, now) {
        // Those that run on are told, not ended.
        let users = if ending.is_over {
            let Identity { namespace, name, .. } = identity;
            let asked = claims::users_of(&context.client, namespace, name, ending.secret).await;
            Some(asked.map_err(Error::ListPods)?)
        } else {
            None
        };
        ends.push((ending, users));
    }
    let verdict = holdings.verdict(&identity.namespace);
    Ok(Credentials::new(verdict, &ends, credentials::next_change(&identity.credentials, now)))
}

/// Publishes what a person should know of a change of the status.
async fn tell(
    previous: Option<&AgentIdentityStatus>,
    next: &AgentIdentityStatus,
    subject: &Subject<'_>,
    context: &Context,
) {
    let changed = |type_| {
        let reason = status::reason_of(type_, Some(next));
        (reason != status::reason_of(type_, previous)).then_some(reason?)
    };
    if changed(READY).is_some()
        && let Some(happening) = Happening::of(next)
    {
        context.events.publish(&subject.reference(), happening).await;
    }
    if let Some(reason) = changed(CREDENTIALS_EXPIRING).filter(|reason| *reason != reason::NOT_EXPIRING) {
        let condition = next.conditions.iter().find(|c| c.type_ == CREDENTIALS_EXPIRING);
        let message = condition.map(|c| c.message.clone()).unwrap_or_default();
        let happening = Happening::CredentialsExpiring(reason.to_owned(), message);
        context.events.publish(&subject.reference(), happening).await;
    }
}

/// Brings the account to what the identity declares. One that is to be replaced stays if it is too `early` for that; a new one
/// is made once it `is_known` whom the agent is to trust.
async fn apply(
    identity: &Identity,
    holdings: &Holdings,
    suspensions: &[&Suspension],
    (early, is_known): (bool, bool),
    subject: &Subject<'_>,
    context: &Context,
) -> Result<Outcome, Error> {
    let suspensions: Vec<_> = suspensions.iter().map(|suspension| suspension.uid.as_str()).collect();
    let accounts: Api<ServiceAccount> = Api::namespaced(context.client.clone(), &identity.namespace);
    let roles: Vec<_> = holdings.roles().collect();
    let role_keys = &context.config.declarable.cloud_role_annotations;
    let desired = account::build(identity, &roles, &suspensions);
    let name = account_name(&identity.name);
    let observed = accounts.get_opt(&name).await.map_err(Error::ReadAccount)?;
    let uid = || observed.as_ref().and_then(|account| account.metadata.uid.clone());
    let plan = account::plan(&desired, observed.as_ref(), &suspensions, role_keys);
    if matches!(plan, Plan::Create | Plan::Heal(_) | Plan::Replace)
        && let Some(why) = context.retries().refused(&subject.agent, &subject.declared(), Instant::now())
    {
        let by = Hindrance::Refused(Made::Account, why);
        return Ok(Outcome::Hindered { account_uid: uid(), by });
    }
    let hindered = |by| Ok(Outcome::Hindered { account_uid: None, by });
    match (plan, &observed) {
        (Plan::Keep, Some(observed)) => Ok(ready(observed)),
        (Plan::Replace, Some(observed)) if early => Ok(ready(observed)),
        (Plan::Heal(fields), Some(observed)) => {
            let healed = account::healed(&desired, observed, role_keys);
            context.metrics.wrote("update", "serviceaccounts");
            let written = match accounts.replace(&name, &writing(), &healed).await {
                Ok(written) => written,
                Err(error) => return refused(error, uid(), subject, context),
            };
            let happening = Happening::DriftHealed { account: name, fields };
            context.events.publish(&subject.reference(), happening).await;
            Ok(ready(&written))
        }
        (Plan::Replace, Some(observed)) => {
            remove(&accounts, observed, context).await?;
            create(&accounts, &desired, subject, context).await
        }
        (Plan::Taken, _) => hindered(Hindrance::Taken(Made::Account)),
        (Plan::AwaitPredecessor, _) => hindered(Hindrance::Predecessor(Made::Account)),
        (Plan::Create, _) if !is_known => hindered(Hindrance::Unknown),
        (Plan::Create | Plan::Keep | Plan::Heal(_) | Plan::Replace, _) => {
            let outcome = create(&accounts, &desired, subject, context).await?;
            if matches!(outcome, Outcome::Ready { .. }) {
                context
                    .events
                    .publish(&subject.reference(), Happening::AccountCreated { account: name })
                    .await;
            }
            Ok(outcome)
        }
    }
}

/// Nobody can say how the account of such an identity should be, but a suspended one's tokens die all the same: the account
/// goes, and is made again when the identity is put right. It stays if it is too `early` for that.
async fn switch_off(
    suspensions: &[&Suspension],
    early: bool,
    subject: &Subject<'_>,
    context: &Context,
) -> Result<(), Error> {
    if suspensions.is_empty() || early {
        return Ok(());
    }
    let (namespace, name) = &subject.agent;
    let accounts: Api<ServiceAccount> = Api::namespaced(context.client.clone(), namespace);
    let observed = accounts.get_opt(&account_name(name)).await.map_err(Error::ReadAccount)?;
    let suspensions: Vec<_> = suspensions.iter().map(|suspension| suspension.uid.as_str()).collect();
    let uid = subject.meta.uid.as_deref().unwrap_or_default();
    match observed.filter(|account| account::outlives(account, uid, &suspensions)) {
        Some(account) => remove(&accounts, &account, context).await,
        None => Ok(()),
    }
}

fn ready(account: &ServiceAccount) -> Outcome {
    Outcome::Ready { account_uid: account.metadata.uid.clone().unwrap_or_default() }
}

/// POST and not apply: an account that appeared meanwhile is a conflict to look at again, not one to adopt.
async fn create(
    accounts: &Api<ServiceAccount>,
    desired: &ServiceAccount,
    subject: &Subject<'_>,
    context: &Context,
) -> Result<Outcome, Error> {
    context.metrics.wrote("create", "serviceaccounts");
    match accounts.create(&writing(), desired).await {
        Ok(created) => Ok(ready(&created)),
        Err(error) => refused(error, None, subject, context),
    }
}

/// Removes exactly the account that was observed.
async fn remove(
    accounts: &Api<ServiceAccount>,
    observed: &ServiceAccount,
    context: &Context,
) -> Result<(), Error> {
    let ObjectMeta { name, uid, resource_version, .. } = observed.metadata.clone();
    let this_one = DeleteParams {
        preconditions: Some(Preconditions { uid, resource_version }),
        ..DeleteParams::default()
    };
    context.metrics.wrote("delete", "serviceaccounts");
    accounts.delete(&name.unwrap_or_default(), &this_one).await.map_err(Error::WriteAccount)?;
    Ok(())
}

/// A refusal is an outcome, told in the status; any other failure is one.
fn refused(
    error: kube::Error,
    account_uid: Option<String>,
    subject: &Subject<'_>,
    context: &Context,
) -> Result<Outcome, Error> {
    let Some(why) = refusal::of(&error) else { return Err(Error::WriteAccount(error)) };
    let (namespace, name) = &subject.agent;
    tracing::warn!(namespace, name, why, "the account is refused; it will be tried again");
    context.retries().refuse(&subject.agent, subject.declared(), &why, Instant::now());
    Ok(Outcome::Hindered { account_uid, by: Hindrance::Refused(Made::Account, why) })
}

fn raw(subject: &Subject<'_>, client: Client) -> Api<DynamicObject> {
    Api::namespaced_with(client, &subject.agent.0, &ApiResource::erase::<AgentIdentity>(&()))
}

/// The status of an identity whose spec cannot be read.
async fn stored_status(
    subject: &Subject<'_>,
    context: &Context,
) -> Result<Option<AgentIdentityStatus>, Error> {
    let object = raw(subject, context.client.clone()).get(&subject.agent.1).await;
    let object = object.map_err(Error::ReadIdentity)?;
    Ok(object.data.get("status").and_then(|status| serde_json::from_value(status.clone()).ok()))
}

/// Server-side apply, so that a field no longer in the status goes. The uid keeps it from landing on a successor.
async fn write_status(
    subject: &Subject<'_>,
    context: &Context,
    status: &AgentIdentityStatus,
) -> Result<(), Error> {
    let patch = json!({
        "apiVersion": AgentIdentity::api_version(&()),
        "kind": AgentIdentity::kind(&()),
        "metadata": {"name": subject.agent.1, "uid": subject.meta.uid},
        "status": status,
    });
    context.metrics.wrote("patch", "agentidentities/status");
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let objects = raw(subject, context.client.clone());
    objects
        .patch_status(&subject.agent.1, &params, &Patch::Apply(patch))
        .await
        .map_err(Error::WriteStatus)?;
    Ok(())
}
