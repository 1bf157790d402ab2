//! The objects of the input that something can be said of; the others are counted and let go at once.

use super::located::{Below, Located};
use crate::policy::Template;
use serde_json::Value;
use std::sync::Arc;

/// An object of the input.
#[derive(Clone, Debug)]
pub(super) struct Input {
    /// The file.
    pub(super) source: Arc<str>,
    /// The place of the document in it, counted from one.
    pub(super) document: usize,
    /// The object.
    pub(super) object: Located,
}

/// What an object is to the scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A pod, or what has the template of one.
    Pods,
    /// An AgentIdentity.
    Identity,
    /// It says what the world is, and is not judged.
    World,
    /// Nothing.
    None,
}

impl Role {
    /// The role of an object.
    pub(super) fn of(value: &Value) -> Self {
        let text = |key: &str| value[key].as_str().unwrap_or_default();
        match (text("apiVersion"), text("kind")) {
            ("deputy.dev/v1alpha1", "AgentIdentity") => Self::Identity,
            (
                "deputy.dev/v1alpha1",
                "AgentException" | "AgentSuspension" | "CredentialClaim" | "DelegationPolicy"
                | "ProtectedResource" | "TrustedIssuer",
            )
            | ("v1", "Namespace" | "ServiceAccount") => Self::World,
            _ if Template::of_manifest(value).is_some() => Self::Pods,
            _ => Self::None,
        }
    }
}

/// Lists within lists.
const LISTS: usize = 4;

/// The input.
#[derive(Debug, Default)]
pub struct Inputs {
    pub(super) objects: Vec<Input>,
    pub(super) skipped: usize,
}

impl Inputs {
    /// Adds the documents of a file.
    pub fn add(&mut self, source: &Arc<str>, documents: Vec<Located>) {
        for (at, object) in documents.into_iter().enumerate() {
            self.take(Input { source: Arc::clone(source), document: at + 1, object }, 0);
        }
    }

    /// Takes lists apart.
    fn take(&mut self, input: Input, depth: usize) {
        let is_list = |value: &Value| {
            value["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) && value["items"].is_array()
        };
        if depth >= LISTS || !is_list(&input.object.value) {
            return match Role::of(&input.object.value) {
                Role::None => self.skipped += 1,
                _ => self.objects.push(input),
            };
        }
        let Input { source, document, object: Located { mut value, mut lines } } = input;
        let lines = match &mut lines.below {
            Below::Map(fields) => fields.remove("items").map(|lines| lines.below),
            _ => None,
        };
        let (Value::Array(items), Some(Below::List(lines))) = (value["items"].take(), lines) else { return };
        for (value, lines) in items.into_iter().zip(lines) {
            let object = Located { value, lines };
            self.take(Input { source: Arc::clone(&source), document, object }, depth + 1);
        }
    }
}
