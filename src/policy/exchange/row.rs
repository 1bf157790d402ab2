//! What each half says of each scope.

use super::Half;

/// Whether a user may do something, by whoever knows the user's rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Right {
    /// The user may.
    Allowed,
    /// The user may not.
    Denied,
    /// There was no answer, or none that can be understood.
    Unknown,
}

/// One scope that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The scope.
    pub scope: String,
    /// Whether the resource offers it.
    pub offered: bool,
    /// Whether the agent's own grants hold it.
    pub granted: bool,
    /// Whether the resource's owner lets the agent have it.
    pub consented: bool,
    /// Whether the policy lends it.
    pub lent: bool,
    /// Whether the user's token lets it be lent.
    pub within_ceiling: bool,
    /// Whether the user may do it; `None` as long as nobody was asked, and on an agent's own behalf.
    pub right: Option<Right>,
}

impl Row {
    /// The first half that denies it.
    pub fn denied_by(&self) -> Option<Half> {
        if !self.is_of_agent() {
            Some(Half::Agent)
        } else if !self.lent {
            Some(Half::Delegation)
        } else if !self.within_ceiling || !matches!(self.right, None | Some(Right::Allowed)) {
            Some(Half::User)
        } else {
            None
        }
    }

    /// Whether the agent's half permits it.
    pub(super) fn is_of_agent(&self) -> bool {
        self.offered && self.granted && self.consented
    }
}
