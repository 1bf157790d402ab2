//! What would have to change for a scope to be given: where, and who can.

use super::Inquiry;
use crate::{
    api::v1alpha1::DelegationMode,
    index::delegation::UserRights,
    policy::exchange::{Right, Row},
};

/// Each half that is in the way, with what to do about it, in the order of the halves.
pub(super) fn remedies(inquiry: &Inquiry<'_>, rows: &[Row], policy: Option<&str>) -> Vec<String> {
    let missing = |is_missing: fn(&Row) -> bool| {
        let scopes = rows.iter().filter(|row| is_missing(row)).map(|row| row.scope.as_str());
        let scopes: Vec<_> = scopes.collect();
        (!scopes.is_empty()).then(|| scopes.join(", "))
    };
    let mut remedies: Vec<String> = suspensions(inquiry).collect();
    match &inquiry.identity {
        Err(why) => remedies
            .push(format!("agent: {why}; until then it has no grants and no policy lends it anything")),
        Ok(_) => {
            remedies.extend(missing(|row| row.offered && !row.granted).map(|scopes| grants(inquiry, &scopes)))
        }
    }
    remedies.extend(missing(|row| !row.offered).map(|scopes| offers(inquiry, &scopes)));
    remedies.extend(missing(|row| row.offered && !row.consented).map(|scopes| consents(inquiry, &scopes)));
    if inquiry.identity.is_ok() {
        remedies
            .extend(missing(|row| row.offered && !row.lent).map(|scopes| lends(inquiry, &scopes, policy)));
    }
    remedies.extend(missing(|row| row.offered && !row.within_ceiling).map(|scopes| {
        format!("user: the scopes of the user's token bound what may be lent, and {scopes} is not among them; log in with it")
    }));
    remedies.extend(missing(|row| row.right == Some(Right::Denied)).map(|scopes| rights(inquiry, &scopes)));
    remedies
}

fn suspensions(inquiry: &Inquiry<'_>) -> impl Iterator<Item = String> {
    let (namespace, agent) = (&inquiry.question.namespace, &inquiry.question.agent);
    inquiry.snapshot.suspensions(namespace, agent).map(move |suspension| {
        let by = suspension.requested_by.as_deref().unwrap_or("nobody named");
        format!(
            "agent: it is suspended by AgentSuspension {namespace}/{} of {by}: {}; see `kubectl deputy resume`",
            suspension.name, suspension.reason
        )
    })
}

fn grants(inquiry: &Inquiry<'_>, scopes: &str) -> String {
    let (namespace, agent) = (&inquiry.question.namespace, &inquiry.question.agent);
    let resource = &inquiry.resource.origin.name;
    let owner = inquiry.identity.as_ref().map_or("", |identity| &identity.owner);
    format!(
        "agent: AgentIdentity {namespace}/{agent} is not granted {scopes} at {resource}: its owner {owner} can list it in \
         spec.grants"
    )
}

fn offers(inquiry: &Inquiry<'_>, scopes: &str) -> String {
    let origin = &inquiry.resource.origin;
    format!(
        "resource: ProtectedResource {} does not offer {scopes}, and a request that names it is refused as a whole: leave it \
         out, or its owner {} can list it in spec.scopes",
        origin.name, inquiry.resource.owner
    )
}

fn consents(inquiry: &Inquiry<'_>, scopes: &str) -> String {
    let (resource, namespace) = (inquiry.resource, &inquiry.question.namespace);
    let (name, owner, mode) = (&resource.origin.name, &resource.owner, mode(inquiry.mode()));
    if resource.admits(namespace, inquiry.mode()) {
        format!(
            "agent: the allowedAgents entries of ProtectedResource {name} for namespace {namespace} and mode {mode} leave out \
             {scopes}: its owner {owner} can add it there"
        )
    } else {
        format!(
            "agent: ProtectedResource {name} has no allowedAgents entry for namespace {namespace} and mode {mode}: its owner \
             {owner} can add one, with {scopes}"
        )
    }
}

fn lends(inquiry: &Inquiry<'_>, scopes: &str, policy: Option<&str>) -> String {
    let (namespace, agent) = (&inquiry.question.namespace, &inquiry.question.agent);
    let (resource, mode) = (&inquiry.resource.origin.name, mode(inquiry.mode()));
    if let Some(policy) = policy {
        return format!(
            "delegation: DelegationPolicy {namespace}/{policy}, by which most of this is lent, leaves out {scopes} at \
             {resource}: who administers the agents of {namespace} can list it in spec.resources; two policies are never \
             added up"
        );
    }
    let whose = inquiry.person.as_ref().map_or_else(
        || format!("lets {agent} act for itself"),
        |person| format!("lends {agent} the rights of {} (TrustedIssuer {})", person.username, person.issuer),
    );
    format!(
        "delegation: no DelegationPolicy in namespace {namespace} {whose} with {scopes} at {resource}: who administers the \
         agents of {namespace} can write one, with mode {mode}"
    )
}

fn rights(inquiry: &Inquiry<'_>, scopes: &str) -> String {
    let name = &inquiry.resource.origin.name;
    let user = inquiry.person.as_ref().map_or("", |person| &person.username);
    match &inquiry.resource.user_rights {
        UserRights::Claims { scope_claim } => format!(
            "user: the claim {scope_claim:?} of {user}'s token does not hold {scopes}: the identity provider decides what it \
             holds"
        ),
        UserRights::Kubernetes => format!(
            "user: {user} may not {scopes} at {name}: a ClusterRole with apiGroups [deputy.dev], resources \
             [protectedresources/scopes], resourceNames [{name}] and verbs [{scopes}] gives that, bound by a ClusterRoleBinding \
             to {user} or a group; RoleBindings do not count"
        ),
    }
}

pub(super) fn mode(mode: DelegationMode) -> &'static str {
    match mode {
        DelegationMode::OnBehalfOfUser => "OnBehalfOfUser",
        DelegationMode::OnOwnBehalf => "OnOwnBehalf",
    }
}
