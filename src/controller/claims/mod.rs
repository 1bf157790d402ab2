//! Claims: of all that declare a static credential, one holds it. [`plan`] says what is to be done, [`users`] asks the API
//! server who uses a credential, and this module does it.

#[cfg(test)]
mod model;
mod plan;
mod standing;
mod users;

pub(super) use standing::{Holdings, Verdict};
pub(super) use users::{Users, of_agent as users_of};

use super::{context::Context, identities::Guarded, writing};
use crate::{
    api::{
        ENFORCE_LABEL, MANAGED_BY_LABEL, TAKEN_AWAY_ANNOTATION,
        lean::Lean,
        v1alpha1::{ClaimHolder, CredentialClaim, CredentialClaimSpec},
    },
    index::{Claim, Declarable, Identity, Subject},
    runtime::clock,
};
use futures::{StreamExt, channel::mpsc::UnboundedSender, stream};
use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Preconditions},
    core::DeserializeGuard,
    runtime::{
        reflector::{ObjectRef, Store},
        watcher::Event,
    },
};
use plan::{Contender, Memory, Step};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

/// Steps taken at once.
const CONCURRENCY: usize = 16;

/// What happens within this time of the first is one look.
const PAUSE: Duration = Duration::from_millis(50);

/// When all is looked at again though nothing was seen to happen.
const AGAIN: Duration = Duration::from_secs(10);

/// How long pods that are in the way are not asked for again, nor a step that failed tried.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the keeper of claims knows, shared with those who watch and those who reconcile.
#[derive(Debug)]
pub(super) struct Claims {
    quiet: Duration,
    started: Instant,
    changed: Notify,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    claims: BTreeMap<String, Claim>,
    listing: Vec<DeserializeGuard<CredentialClaim>>,
    /// Namespaces in which nobody else may name a claimed Secret.
    enforced: BTreeSet<String>,
    enforcing: BTreeSet<String>,
    memory: Memory,
    /// Uids of claims that this process deleted.
    removed: HashSet<String>,
    /// Pods that a claim waits for, by its name, and when that was asked.
    waits: HashMap<String, (Users, Instant)>,
}

impl Claims {
    /// `quiet` must be longer than a webhook's view may be old and a request may take together.
    pub(super) fn new(quiet: Duration) -> Self {
        Self { quiet, started: Instant::now(), changed: Notify::new(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened that may change who is to hold what.
    pub(super) fn look(&self) {
        self.changed.notify_one();
    }

    /// What a watch of claims delivered. Returns the subjects concerned, `None` for all of them.
    pub(super) fn take(&self, event: Event<DeserializeGuard<CredentialClaim>>) -> Option<Vec<Subject>> {
        let mut state = self.state();
        let concerned = state.take(event);
        drop(state);
        self.look();
        concerned
    }

    /// What a watch of labelled namespaces delivered. Returns the namespace concerned, `None` for all of them.
    pub(super) fn enforce(&self, event: Event<Lean<Namespace>>) -> Option<String> {
        let mut state = self.state();
        let concerned = state.enforce(event);
        drop(state);
        self.look();
        concerned
    }

    /// How an identity stands with what it declares.
    pub(super) fn holdings(&self, identity: &Identity) -> Holdings {
        let state = self.state();
        let enforced = state.enforced.contains(&identity.namespace);
        let standings = identity.subjects().map(|subject| {
            let name = subject.claim_name();
            let claim = state.claims.get(&name);
            let waits = state.waits.get(&name).map(|(users, _)| users);
            let standing = standing::of(identity, enforced, claim, waits);
            (subject, standing)
        });
        Holdings(standings.collect())
    }

    /// Whether somebody waits for pods to end.
    pub(super) fn waits(&self) -> bool {
        !self.state().waits.is_empty()
    }

    fn contenders(&self, known: &Store<Guarded>, declarable: &Declarable) -> Vec<Contender> {
        let enforced = self.state().enforced.clone();
        let contender = |guard: Arc<Guarded>| {
            let identity = Identity::validate(guard.0.as_ref().ok()?, declarable).ok()?;
            let subjects: Vec<_> = identity.subjects().collect();
            let may_hold =
                !subjects.is_empty() && !identity.deleting && enforced.contains(&identity.namespace);
            let Identity { namespace, name, uid, .. } = identity;
            may_hold.then_some(Contender { holder: ClaimHolder { namespace, name, uid }, subjects })
        };
        known.state().into_iter().filter_map(contender).collect()
    }

    fn plan(&self, contenders: &[Contender], now: Duration) -> plan::Plan {
        let State { claims, memory, waits, .. } = &mut *self.state();
        let plan = plan::plan(contenders, claims, self.quiet, memory, now);
        let asked: HashSet<_> = plan.steps.iter().map(|step| step.subject().claim_name()).collect();
        waits.retain(|name, _| asked.contains(name));
        plan
    }

    /// How many claims are held, and how many released.
    fn count(&self) -> [usize; 2] {
        let state = self.state();
        let released = state.claims.values().filter(|claim| claim.released.is_some()).count();
        [state.claims.len() - released, released]
    }
}

impl State {
    fn take(&mut self, event: Event<DeserializeGuard<CredentialClaim>>) -> Option<Vec<Subject>> {
        match event {
            Event::Init => {
                self.listing.clear();
                Some(vec![])
            }
            Event::InitApply(guard) => {
                self.listing.push(guard);
                Some(vec![])
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listing);
                let fresh: BTreeMap<_, _> = listed.iter().filter_map(read).collect();
                let before = std::mem::take(&mut self.claims);
                for (_, claim) in before.into_iter().filter(|(name, _)| !fresh.contains_key(name)) {
                    self.gone(&claim);
                }
                self.claims = fresh;
                self.removed.clear();
                None
            }
            Event::Apply(guard) => match read(&guard) {
                Some((name, claim)) => {
                    let subject = claim.subject.clone();
                    self.claims.insert(name, claim);
                    Some(vec![subject])
                }
                None => Some(self.forget(&guard.name_any())),
            },
            Event::Delete(guard) => Some(self.forget(&guard.name_any())),
        }
    }

    fn forget(&mut self, name: &str) -> Vec<Subject> {
        let Some(claim) = self.claims.remove(name) else { return vec![] };
        self.gone(&claim);
        vec![claim.subject]
    }

    /// A claim that this process did not remove was taken away.
    fn gone(&mut self, claim: &Claim) {
        if !self.removed.remove(&claim.uid) {
            tracing::warn!(
                claim = claim.subject.claim_name(),
                holder = claim.holder.name,
                namespace = claim.holder.namespace,
                "the claim was deleted, and its holder loses it"
            );
            self.memory.taken_away(claim);
        }
    }

    fn enforce(&mut self, event: Event<Lean<Namespace>>) -> Option<String> {
        let is_enforced = |namespace: &Lean<Namespace>| {
            let label = namespace.labels().get(ENFORCE_LABEL);
            label.is_some_and(|value| value == "agents" || value == "all")
        };
        match event {
            Event::Init => {
                self.enforcing.clear();
                Some(String::new())
            }
            Event::InitApply(namespace) => {
                if is_enforced(&namespace) {
                    self.enforcing.insert(namespace.name_any());
                }
                Some(String::new())
            }
            Event::InitDone => {
                self.enforced = std::mem::take(&mut self.enforcing);
                None
            }
            Event::Apply(namespace) if is_enforced(&namespace) => {
                self.enforced.insert(namespace.name_any());
                Some(namespace.name_any())
            }
            Event::Apply(namespace) | Event::Delete(namespace) => {
                self.enforced.remove(&namespace.name_any());
                Some(namespace.name_any())
            }
        }
    }
}

fn read(guard: &DeserializeGuard<CredentialClaim>) -> Option<(String, Claim)> {
    let claim = Claim::read(guard.0.as_ref().ok()?)?;
    Some((claim.subject.claim_name(), claim))
}

/// Sees to it for ever that what is declared is held by one. Tells of the identities whose standing changes while their claim
/// does not.
pub(super) async fn keep(
    known: Store<Guarded>,
    context: Arc<Context>,
    tell: UnboundedSender<Vec<ObjectRef<Guarded>>>,
) {
    // Before it is listed nobody seems to declare anything, and every claim would be released. An error means that the
    // store's writer is gone, and the controller with it.
    if known.wait_until_ready().await.is_err() {
        return;
    }
    let claims = &context.claims;
    let mut wake = AGAIN;
    loop {
        if timeout(wake, claims.changed.notified()).await.is_ok() {
            sleep(PAUSE).await;
        }
        let now = claims.started.elapsed();
        let contenders = claims.contenders(&known, &context.config.declarable);
        let plan = claims.plan(&contenders, now);
        let [held, released] = claims.count();
        context.metrics.claims(held, released);
        wake = plan.wake.map_or(AGAIN, |at| at.saturating_sub(now).min(AGAIN));
        let mut steps =
            stream::iter(plan.steps).map(|step| take(step, &context)).buffer_unordered(CONCURRENCY);
        while let Some((subject, taken)) = steps.next().await {
            match taken {
                Ok(Taken::Done) => {}
                Ok(Taken::Waits { told }) => {
                    wake = wake.min(PATIENCE);
                    if !told {
                        // The other end lives as long as the controller.
                        let _ = tell.unbounded_send(declaring(&known, Some(&subject)));
                    }
                }
                Err(error) => {
                    tracing::warn!(claim = subject.claim_name(), %error, "a claim could not be written and will be tried again");
                    wake = wake.min(PATIENCE);
                }
            }
        }
    }
}

/// References of the identities that may declare `subject`, or anything.
pub(super) fn declaring(known: &Store<Guarded>, subject: Option<&Subject>) -> Vec<ObjectRef<Guarded>> {
    let concerned = |guard: &Arc<Guarded>| {
        let Ok(object) = &guard.0 else { return false };
        let roles = || object.spec.service_account.iter().any(|account| !account.annotations.is_empty());
        match subject {
            Some(Subject::Secret { namespace, .. }) => {
                object.metadata.namespace.as_ref() == Some(namespace) && !object.spec.credentials.is_empty()
            }
            Some(Subject::CloudRole { .. }) => roles(),
            None => roles() || !object.spec.credentials.is_empty(),
        }
    };
    known
        .state()
        .iter()
        .filter(|guard| concerned(guard))
        .map(|guard| ObjectRef::from_obj(guard.as_ref()))
        .collect()
}

/// How a step ended.
enum Taken {
    /// The claim is as it should be, or somebody was faster: the watch will tell.
    Done,
    /// Pods are in the way, and whether that was known.
    Waits { told: bool },
}

async fn take(step: Step, context: &Context) -> (Subject, Result<Taken, kube::Error>) {
    let subject = step.subject().clone();
    let taken = match step {
        Step::Claim { holder, .. } => make(&subject, holder, context).await,
        Step::TakeAway { holder, .. } => {
            let claim = object(&subject, holder, Some(clock::now()), true);
            create(claim, context).await
        }
        Step::Release(claim) => {
            let released = object(&subject, claim.holder.clone(), Some(clock::now()), false);
            replace(&claim, released, context).await
        }
        Step::Restore(claim) => restore(&claim, context).await,
        Step::HandOver { claim, next } => hand_over(&claim, next, context).await,
    };
    (subject, taken)
}

async fn make(subject: &Subject, holder: ClaimHolder, context: &Context) -> Result<Taken, kube::Error> {
    if let Some(waits) = in_the_way(subject, None, Some(&holder), context).await? {
        return Ok(waits);
    }
    create(object(subject, holder, None, false), context).await
}

/// Meanwhile others may have used it: of a namespace that lost its label, anybody.
async fn restore(claim: &Claim, context: &Context) -> Result<Taken, kube::Error> {
    let (subject, holder) = (&claim.subject, &claim.holder);
    // A role's pods are the holder's own.
    if matches!(subject, Subject::Secret { .. })
        && let Some(waits) = in_the_way(subject, Some(claim), Some(holder), context).await?
    {
        return Ok(waits);
    }
    replace(claim, object(subject, holder.clone(), None, false), context).await
}

async fn hand_over(
    claim: &Claim,
    next: Option<ClaimHolder>,
    context: &Context,
) -> Result<Taken, kube::Error> {
    if let Some(waits) = in_the_way(&claim.subject, Some(claim), next.as_ref(), context).await? {
        return Ok(waits);
    }
    match next {
        Some(next) => {
            tracing::info!(
                claim = claim.subject.claim_name(),
                from = claim.holder.name,
                to = next.name,
                "the claim changes hands"
            );
            replace(claim, object(&claim.subject, next, None, false), context).await
        }
        None => remove(claim, context).await,
    }
}

/// Whether pods are in the way, by a list that is not behind.
async fn in_the_way(
    subject: &Subject,
    claim: Option<&Claim>,
    next: Option<&ClaimHolder>,
    context: &Context,
) -> Result<Option<Taken>, kube::Error> {
    let claims = &context.claims;
    let name = subject.claim_name();
    let asked = claims.state().waits.get(&name).is_some_and(|(_, at)| at.elapsed() < PATIENCE);
    if asked {
        return Ok(Some(Taken::Waits { told: true }));
    }
    let users = users::of(&context.client, subject, claim, next, claims.quiet).await?;
    let mut state = claims.state();
    if users.is_nobody() {
        state.waits.remove(&name);
        return Ok(None);
    }
    let before = state.waits.insert(name, (users.clone(), Instant::now()));
    Ok(Some(Taken::Waits { told: before.is_some_and(|(before, _)| before == users) }))
}

fn object(
    subject: &Subject,
    holder: ClaimHolder,
    released: Option<Timestamp>,
    taken_away: bool,
) -> CredentialClaim {
    let spec = CredentialClaimSpec { subject: subject.to_wire(), holder, released_time: released.map(Time) };
    let mut claim = CredentialClaim::new(&subject.claim_name(), spec);
    claim.metadata.labels = Some([(MANAGED_BY_LABEL.to_owned(), "deputy".to_owned())].into());
    if taken_away {
        claim.annotations_mut().insert(TAKEN_AWAY_ANNOTATION.to_owned(), "true".to_owned());
    }
    claim
}

fn api(context: &Context) -> Api<CredentialClaim> {
    Api::all(context.client.clone())
}

async fn create(claim: CredentialClaim, context: &Context) -> Result<Taken, kube::Error> {
    context.metrics.wrote("create", "credentialclaims");
    settled(api(context).create(&writing(), &claim).await)
}

/// On the version that was looked at, and no other.
async fn replace(seen: &Claim, mut next: CredentialClaim, context: &Context) -> Result<Taken, kube::Error> {
    next.metadata.uid = Some(seen.uid.clone());
    next.metadata.resource_version = Some(seen.resource_version.clone());
    context.metrics.wrote("update", "credentialclaims");
    settled(api(context).replace(&seen.subject.claim_name(), &writing(), &next).await)
}

async fn remove(seen: &Claim, context: &Context) -> Result<Taken, kube::Error> {
    let this_one = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(seen.uid.clone()),
            resource_version: Some(seen.resource_version.clone()),
        }),
        ..DeleteParams::default()
    };
    context.metrics.wrote("delete", "credentialclaims");
    // Before it is seen to be gone, or it would look like somebody else's doing.
    context.claims.state().removed.insert(seen.uid.clone());
    let removed = api(context).delete(&seen.subject.claim_name(), &this_one).await;
    if removed.is_err() {
        context.claims.state().removed.remove(&seen.uid);
    }
    settled(removed)
}

/// Somebody else may have been faster. What he did is seen by the watch, and looked at then.
fn settled<T>(written: Result<T, kube::Error>) -> Result<Taken, kube::Error> {
    match written {
        Err(kube::Error::Api(status))
            if status.is_already_exists() || status.is_conflict() || status.is_not_found() =>
        {
            Ok(Taken::Done)
        }
        Err(error) => Err(error),
        Ok(_) => Ok(Taken::Done),
    }
}
