//! Whether what a token was given for may be done now: the token is judged again, and then the one action.

use super::{
    Basis, Candidates, Decision, Denial, Grant, Half, Reason, Request, Right, Row, World, authorize,
};
use crate::index::Snapshot;
use std::{borrow::Cow, collections::BTreeSet};

/// What is about to be done at a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// A tool is called.
    Tool(&'a str),
    /// What a scope of the resource stands for.
    Scope(&'a str),
}

/// What of the user's rights `action` takes, by a token whose scopes are `request.scopes` and which rests on the policy
/// `request.resting_on`.
///
/// A token of which one scope would not be given any more is worth nothing at all: it says something that is not true.
pub fn act<'a>(
    request: &Request<'_>,
    action: Action<'_>,
    snapshot: &'a Snapshot,
) -> Decision<Candidates<'a>> {
    let candidates = match authorize(request, snapshot) {
        Decision::Permit(candidates) => candidates,
        Decision::Deny(denial) => return Decision::Deny(denial),
    };
    let Candidates { basis, mut rows } = candidates;
    if let Some(half) = rows.iter().find_map(Row::denied_by) {
        return Decision::Deny(Denial::new(missing(half), rows));
    }
    let taken = match taken(action, basis) {
        Ok(taken) => taken,
        Err(reason) => return Decision::Deny(Denial::new(reason, rows)),
    };
    if !taken.is_subset(request.scopes) {
        let rows = World::of(request, snapshot).rows(&Request { scopes: &taken, ..*request });
        // Only if another token would help it is told so: clients ask for one.
        let reason = rows.iter().find_map(Row::denied_by).map_or(Reason::InsufficientScope, missing);
        return Decision::Deny(Denial::new(reason, rows));
    }
    rows.retain(|row| taken.contains(&row.scope));
    Decision::Permit(Candidates { basis, rows })
}

/// The grant, if nothing of what was asked for is missing in it.
pub fn whole(grant: Grant<'_>) -> Decision<Grant<'_>> {
    let Some(half) = grant.rows.iter().find_map(Row::denied_by) else { return Decision::Permit(grant) };
    let is_unknown = grant.rows.iter().any(|row| row.right == Some(Right::Unknown));
    let reason = if is_unknown { Reason::UserHalfUnknown } else { missing(half) };
    Decision::Deny(Denial::new(reason, grant.rows))
}

/// The scopes that `action` takes. A tool is there if the resource's owner lists it, and the policy besides.
fn taken<'a>(action: Action<'_>, basis: Basis<'a>) -> Result<Cow<'a, BTreeSet<String>>, Reason> {
    let Basis { resource, policy, .. } = basis;
    match action {
        Action::Tool(tool) => {
            let scopes = resource.tools.get(tool).ok_or(Reason::ToolUnlisted)?;
            let lent = policy.resources.get(&resource.origin.name);
            let is_lent = lent.is_some_and(|lent| lent.tools.contains(tool));
            if is_lent { Ok(Cow::Borrowed(scopes)) } else { Err(Reason::ToolNotLent) }
        }
        Action::Scope(scope) if resource.scopes.contains(scope) => {
            Ok(Cow::Owned(BTreeSet::from([scope.to_owned()])))
        }
        Action::Scope(_) => Err(Reason::ActionUnknown),
    }
}

fn missing(half: Half) -> Reason {
    match half {
        Half::Agent => Reason::AgentHalf,
        Half::Delegation => Reason::Delegation,
        Half::User => Reason::UserHalf,
    }
}
