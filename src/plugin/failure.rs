//! What went wrong between a person and the API server, in words that say what to do.

use kube::{Error, client::AuthError, core::Status};
use std::error::Error as StdError;

/// The right a request takes, by the role that gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// To see identities and suspensions.
    See,
    /// To suspend and resume.
    Suspend,
    /// To see ServiceAccounts.
    SeeAccounts,
    /// To ask what somebody else may do.
    Review,
    /// To read the record, and by whose key users are named in it.
    Audit,
}

impl Right {
    fn role(self) -> &'static str {
        match self {
            Self::See => "ClusterRole deputy-viewer",
            Self::Suspend => "ClusterRole deputy-suspender",
            Self::SeeAccounts => "ClusterRole view",
            Self::Review => "ClusterRole system:auth-delegator",
            Self::Audit => "Role deputy-auditor of Deputy's namespace",
        }
    }
}

/// What `error`, met while asking `server`, means, and what to do about it.
pub fn explain(error: &Error, server: &str, right: Right) -> String {
    if let Error::Api(status) = error {
        return refused(status, right);
    }
    // Nothing of the credential program's own words: its output is a credential.
    if causes(error).any(|cause| cause.is::<AuthError>()) || matches!(error, Error::Auth(_)) {
        return "the kubeconfig's way to a credential fails; see what `kubectl auth whoami` says, and log in again"
            .to_owned();
    }
    match error {
        Error::Service(_) | Error::HyperError(_) => format!(
            "the API server at {server} cannot be reached: {}; check network and VPN, and that --context is the cluster \
             you mean",
            causes(error).last().map(ToString::to_string).unwrap_or_default()
        ),
        Error::SerdeError(cause) => format!("the answer of {server} is not an API server's: {cause}"),
        other => other.to_string(),
    }
}

/// The error, its cause, and so on.
fn causes(error: &Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(Some(error as &(dyn StdError + 'static)), |error| (*error).source())
}

fn refused(status: &Status, right: Right) -> String {
    let message = &status.message;
    match status.code {
        401 => "the API server does not accept your credential; log in again, and see `kubectl auth whoami`".to_owned(),
        // An API server has no Status for a path it does not serve.
        404 if status.reason != "NotFound" => {
            "this cluster does not know the kinds of Deputy: it is not installed here, or --context is another cluster's"
                .to_owned()
        }
        // RBAC's words; a policy's own say what to do.
        403 if message.contains(" cannot ") && message.contains(" resource ") => format!(
            "{message}; the {} gives that right: ask an administrator to bind it to you there",
            right.role()
        ),
        _ if message.is_empty() => format!("the API server answers {} {}", status.code, status.reason),
        _ => message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn said(code: u16, reason: &str, message: &str) -> String {
        let error = Error::Api(Status::failure(message, reason).with_code(code).boxed());
        explain(&error, "https://server:6443", Right::Suspend)
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        let rbac = "agentsuspensions.deputy.dev is forbidden: User \"dana\" cannot create resource \"agentsuspensions\" in \
                    API group \"deputy.dev\" in the namespace \"ns\"";
        let said_of_rbac = said(403, "Forbidden", rbac);
        assert!(said_of_rbac.contains(rbac) && said_of_rbac.contains("deputy-suspender"), "{said_of_rbac}");
        // Not for want of a right: no role helps.
        let policy = "denied request: spec.requestedBy: \"dana\" is not you";
        assert_eq!(said(403, "Forbidden", policy), policy);
        assert!(said(401, "Unauthorized", "Unauthorized").contains("log in again"));
        let absent = said(404, "Failed to parse error data", "404 page not found");
        assert!(absent.contains("not installed"), "{absent}");
        let namespace = "namespaces \"x\" not found";
        assert_eq!(said(404, "NotFound", namespace), namespace);
        assert_eq!(said(500, "InternalError", ""), "the API server answers 500 InternalError");
    }

    #[test]
    fn an_api_server_out_of_reach_is_named_with_the_cause() {
        let error = Error::Service(Box::new(io::Error::other("connection refused")));
        let said = explain(&error, "https://server:6443", Right::See);
        assert!(said.contains("https://server:6443") && said.contains("connection refused"), "{said}");
    }

    #[test]
    fn the_words_of_a_credential_program_are_not_repeated() {
        let secret = || AuthError::AuthExec("token-of-dana".to_owned());
        for error in [Error::Auth(secret()), Error::Service(Box::new(secret()))] {
            let said = explain(&error, "https://server:6443", Right::See);
            assert!(!said.contains("token-of-dana") && said.contains("kubectl auth whoami"), "{said}");
        }
    }
}
