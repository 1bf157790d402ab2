//! `kubectl deputy can-i`: reads the objects, asks the API server what the user may do, and lets the functions decide that
//! decide for the broker.

use super::{ConnectionOptions, Output, Session};
use crate::{
    api::condition::READY,
    broker::rights::{Person, allowed, review},
    identity::account_name,
    index::{Declarable, Index, Observed, Snapshot, delegation::UserRights},
    plugin::{
        Line,
        can_i::{Answer, Asked, Inquiry, Question, Wanted},
    },
    policy::exchange::Right,
    runtime::clock,
};
use clap::Args;
use kube::core::DeserializeGuard;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

#[derive(Args, Debug)]
pub struct Options {
    /// Name of the agent
    #[arg(value_parser = super::agent_name)]
    agent: String,
    /// The user, as policies and RBAC name him; without it the agent acts for itself
    #[arg(long = "for", value_name = "USER")]
    user: Option<String>,
    /// Groups the user is in
    #[arg(long, value_name = "GROUP", value_delimiter = ',', requires = "user")]
    groups: Vec<String>,
    /// Name of the user's TrustedIssuer; by default the one whose names begin like the user's
    #[arg(long, value_name = "NAME", requires = "user")]
    issuer: Option<String>,
    /// Name or identifier of the ProtectedResource
    #[arg(long, value_name = "NAME|URI")]
    resource: String,
    /// Scopes
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',', required = true)]
    scopes: Vec<String>,
    /// Where the user's rights are in a claim of his token: the scopes that it holds
    #[arg(long, value_name = "SCOPE", value_delimiter = ',', requires = "user")]
    claim_scopes: Option<Vec<String>>,
    /// The scopes that the user's token itself names, where they bound what may be lent
    #[arg(long, value_name = "SCOPE", value_delimiter = ',', requires = "user")]
    token_scopes: Option<Vec<String>>,
    /// Form of the answer
    #[arg(short, long, default_value = "table")]
    output: Output,
    #[command(flatten)]
    pub(super) connection: ConnectionOptions,
}

impl Options {
    fn question(&self, namespace: &str) -> Question {
        let set = |scopes: &Vec<String>| scopes.iter().cloned().collect::<BTreeSet<_>>();
        let user = self.user.as_ref().map(|name| Asked {
            name: name.clone(),
            groups: self.groups.clone(),
            issuer: self.issuer.clone(),
            ceiling: self.token_scopes.as_ref().map(set),
        });
        Question {
            namespace: namespace.to_owned(),
            agent: self.agent.clone(),
            user,
            resource: self.resource.clone(),
            scopes: set(&self.scopes),
        }
    }
}

pub(super) async fn run(session: &Session, options: &Options, tell: &mut (dyn FnMut(Line) + Send)) {
    let question = options.question(&session.namespace);
    let Some(snapshot) = snapshot(session, &question, tell).await else { return };
    let inquiry = match Inquiry::new(&question, &snapshot) {
        Ok(inquiry) => inquiry,
        // A name that is nobody's is no answer: it may be a slip of the pen.
        Err(why) => return tell(Line::Unknown(why)),
    };
    let rights = match inquiry.wanted() {
        Some(wanted) => rights(session, &wanted, options.claim_scopes.as_deref(), tell).await,
        None => BTreeMap::new(),
    };
    let report = inquiry.answer(&rights, clock::now());
    match options.output {
        Output::Json => match report.json() {
            Ok(json) => tell(Line::Data(json)),
            Err(error) => return tell(Line::Unknown(error.to_string())),
        },
        Output::Table => tell(Line::Data(report.table())),
    }
    for note in &report.notes {
        tell(Line::Warning(note.clone()));
    }
    let agent = format!("agent {}/{}", question.namespace, question.agent);
    match (report.answer, report.reason) {
        (Answer::Yes, _) => {}
        (Answer::No, None) => {
            tell(Line::Failure(format!("{agent} would not be given all of these scopes")));
        }
        (Answer::No, Some(reason)) => {
            tell(Line::Failure(format!("{agent} would be given nothing ({reason})")));
        }
        (Answer::Unknown, _) => {
            tell(Line::Unknown(
                "what the user may do is not known, and nothing else is in the way".to_owned(),
            ));
        }
    }
}

/// The objects as a snapshot of the index, if all of them could be seen that may matter.
async fn snapshot(
    session: &Session,
    question: &Question,
    tell: &mut (dyn FnMut(Line) + Send),
) -> Option<Arc<Snapshot>> {
    let mut failed = vec![];
    let mut index = Index::new(Declarable::default());
    match session.identity(&question.agent).await {
        Ok(Some(identity)) => see_identity(session, &mut index, identity, tell, &mut failed).await,
        Ok(None) => {}
        Err(failure) => failed.push(format!("the AgentIdentity cannot be seen: {failure}")),
    }
    let (suspensions, failure) = session.suspensions().await;
    failed.extend(failure.map(|failure| format!("whether the agent is suspended cannot be seen: {failure}")));
    index.reset_suspensions(suspensions.into_iter().map(Observed::from).collect());
    let (resources, failure) = session.resources().await;
    failed.extend(failure.map(|failure| format!("not every ProtectedResource can be seen: {failure}")));
    index.reset_resources(&observed(resources));
    let (policies, failure) = session.policies().await;
    failed.extend(failure.map(|failure| format!("not every DelegationPolicy can be seen: {failure}")));
    index.reset_policies(&observed(policies));
    if question.user.is_some() {
        let (issuers, failure) = session.issuers().await;
        failed.extend(failure.map(|failure| format!("not every TrustedIssuer can be seen: {failure}")));
        index.reset_issuers(&observed(issuers));
    }
    let is_whole = failed.is_empty();
    failed.into_iter().for_each(|why| tell(Line::Unknown(why)));
    is_whole.then(|| index.snapshot())
}

fn observed<K>(guards: Vec<DeserializeGuard<K>>) -> Vec<Observed<K>> {
    guards.into_iter().map(Observed::from).collect()
}

/// Puts an identity and its account into the index. What only the installation knows, such as which audiences are reserved,
/// its controller has said in the identity's conditions.
async fn see_identity(
    session: &Session,
    index: &mut Index,
    guard: DeserializeGuard<crate::api::v1alpha1::AgentIdentity>,
    tell: &mut (dyn FnMut(Line) + Send),
    failed: &mut Vec<String>,
) {
    let Ok(identity) = &guard.0 else { return index.apply_identity(guard.into()) };
    let name = identity.metadata.name.clone().unwrap_or_default();
    let conditions = identity.status.iter().flat_map(|status| &status.conditions);
    let ready = conditions.into_iter().find(|condition| condition.type_ == READY);
    if let Some(ready) = ready.filter(|ready| ready.status == "False") {
        let message = &ready.message;
        tell(Line::Warning(format!(
            "the controller says of AgentIdentity {name}: {}: {message}",
            ready.reason
        )));
    }
    match session.account(&account_name(&name)).await {
        Ok(account) => account.iter().for_each(|account| index.apply_account(account)),
        Err(failure) => failed.push(format!("the agent's ServiceAccount cannot be seen: {failure}")),
    }
    index.apply_identity(guard.into());
}

/// What the user may do of what is left.
async fn rights(
    session: &Session,
    wanted: &Wanted<'_>,
    claimed: Option<&[String]>,
    tell: &mut (dyn FnMut(Line) + Send),
) -> BTreeMap<String, Right> {
    let mut rights = BTreeMap::new();
    let person = Person { username: &wanted.person.username, groups: &wanted.person.groups };
    for scope in &wanted.scopes {
        let right = match (wanted.rights, claimed) {
            (UserRights::Claims { .. }, Some(claimed)) if claimed.contains(scope) => Right::Allowed,
            (UserRights::Claims { .. }, Some(_)) => Right::Denied,
            (UserRights::Claims { .. }, None) => Right::Unknown,
            (UserRights::Kubernetes, _) if person.is_of_kubernetes() => Right::Denied,
            (UserRights::Kubernetes, _) => {
                match session.review(&review(person, wanted.resource, scope)).await {
                    Ok(answer) => match allowed(&answer) {
                        Some(true) => Right::Allowed,
                        Some(false) => Right::Denied,
                        None => Right::Unknown,
                    },
                    Err(failure) => {
                        tell(Line::Warning(format!(
                            "whether the user may {scope} cannot be asked: {failure}"
                        )));
                        Right::Unknown
                    }
                }
            }
        };
        rights.insert(scope.clone(), right);
    }
    if let (UserRights::Claims { scope_claim }, None) = (wanted.rights, claimed) {
        tell(Line::Warning(format!(
            "what the user may do is what the claim {scope_claim:?} of his token holds; say what it does by --claim-scopes"
        )));
    }
    rights
}
