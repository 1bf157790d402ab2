//! What is wrong with an identity itself, found before the controller says so in its status.

use super::{
    Finding,
    rule::{AI001, AI301, AI302},
};
use crate::index::Subject;

/// An identity that grants nothing, for what `why` says.
pub fn invalid_identity(why: &str) -> Finding {
    Finding::deny(&AI001, "spec", format!("the identity is not valid, and its pods cannot run: {why}"))
}

/// An identity that declares what the identity `holder` holds.
pub fn contested(subject: &Subject, holder: &str) -> Finding {
    let message = format!("{subject} is held by AgentIdentity {holder:?}");
    match subject {
        Subject::Secret { .. } => Finding::deny(&AI301, "spec.credentials", message),
        Subject::CloudRole { .. } => Finding::deny(&AI302, "spec.serviceAccount.annotations", message),
    }
}
