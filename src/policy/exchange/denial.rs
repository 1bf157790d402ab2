//! Why there is no token, or no scope: in words that stay the same.

use super::Row;
pub use crate::oauth::Half;

/// Why nothing is permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The action is neither a tool call nor a scope of the resource.
    ActionUnknown,
    /// Nothing is left once the agent's grants and the owner's consent are looked at.
    AgentHalf,
    /// An `AgentSuspension` is in force.
    AgentSuspended,
    /// No valid identity of that name and uid that owns its account.
    AgentUnknown,
    /// Nothing is left of it in the policy.
    Delegation,
    /// The token lacks a scope that the action takes, and that another exchange could give.
    InsufficientScope,
    /// No token is made for this resource to this agent.
    InvalidTarget(Target),
    /// No policy lends the agent these rights at this resource.
    NoDelegation,
    /// No scope was asked for.
    ScopeRequired,
    /// A scope that the resource does not offer.
    ScopeUnknown,
    /// The token would be worth nothing before it arrives: one of those it is made from is about to end.
    SubjectExpiring,
    /// No issuer of that URL counts, or the user is not called as it calls users now.
    SubjectIssuer,
    /// The policy that the token rests on does not lend the tool.
    ToolNotLent,
    /// The resource does not list the tool.
    ToolUnlisted,
    /// Nothing is left that the user may do.
    UserHalf,
    /// What the user may do cannot be known now.
    UserHalfUnknown,
}

/// What is wrong with a target. For records and for those who may read the objects: whoever asks for a token is told one
/// word for all of them, or he could find out by asking what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// No resource of that identifier counts.
    Unknown,
    /// Its owner does not let agents of this namespace in, or not in this mode.
    NoConsent,
    /// The agent has no grant for it.
    NoGrant,
}

impl Reason {
    /// The reason as records and answers name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ActionUnknown => "action_unknown",
            Self::AgentHalf => "agent_half",
            Self::AgentSuspended => "agent_suspended",
            Self::AgentUnknown => "agent_unknown",
            Self::Delegation => "delegation",
            Self::InsufficientScope => "insufficient_scope",
            Self::InvalidTarget(_) => "invalid_target",
            Self::NoDelegation => "no_delegation",
            Self::ScopeRequired => "scope_required",
            Self::ScopeUnknown => "scope_unknown",
            Self::SubjectExpiring => "subject_expiring",
            Self::SubjectIssuer => "subject_issuer",
            Self::ToolNotLent => "tool_not_lent",
            Self::ToolUnlisted => "tool_unlisted",
            Self::UserHalf => "user_half",
            Self::UserHalfUnknown => "user_half_unknown",
        }
    }

    /// The half that failed, where it is one.
    pub fn half(self) -> Option<Half> {
        match self {
            Self::AgentHalf | Self::AgentSuspended | Self::AgentUnknown | Self::ToolUnlisted => {
                Some(Half::Agent)
            }
            Self::Delegation | Self::NoDelegation | Self::ToolNotLent => Some(Half::Delegation),
            Self::UserHalf | Self::UserHalfUnknown => Some(Half::User),
            Self::ActionUnknown
            | Self::InsufficientScope
            | Self::InvalidTarget(_)
            | Self::ScopeRequired
            | Self::ScopeUnknown
            | Self::SubjectExpiring
            | Self::SubjectIssuer => None,
        }
    }
}

/// Nothing is permitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The half that failed, where it is one.
    pub half: Option<Half>,
    /// Why.
    pub reason: Reason,
    /// What is known of each scope that was asked for. It tells of objects that whoever asks may not read.
    pub rows: Vec<Row>,
}

impl Denial {
    pub(super) fn new(reason: Reason, rows: Vec<Row>) -> Self {
        Self { half: reason.half(), reason, rows }
    }
}
