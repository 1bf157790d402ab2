//! The managed ServiceAccount's name. One to one with the identity by construction, so that no cross-object check is
//! needed to know that two agents do not share an account.

use crate::api::ACCOUNT_PREFIX;

/// The name of the managed ServiceAccount of the agent `agent`: `agent.<name>`.
pub fn account_name(agent: &str) -> String {
    format!("{ACCOUNT_PREFIX}{agent}")
}

/// The agent whose managed account `account` is by name, or `None` for an account outside the reserved prefix.
///
/// `agent.` alone names no agent, but is reserved: it yields the empty name.
pub fn agent_of_account(account: &str) -> Option<&str> {
    account.strip_prefix(ACCOUNT_PREFIX)
}

/// The username the API server gives to a ServiceAccount.
pub fn account_username(namespace: &str, account: &str) -> String {
    format!("system:serviceaccount:{namespace}:{account}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_and_agent_are_inverse() {
        assert_eq!(account_name("a"), "agent.a");
        assert_eq!(agent_of_account("agent.a"), Some("a"));
        assert_eq!(agent_of_account("agent."), Some(""));
        assert_eq!(agent_of_account("agents.a"), None);
        assert_eq!(agent_of_account("default"), None);
    }
}
