//! What a pod that names an agent is turned into. Targeted operations on the raw pod: fields this version does not
//! know stay as they are, and a second run on the result changes nothing.

use super::{
    Finding, Malformed, Settings, checks,
    checks::identity::LABEL_PATH,
    facts::PodFacts,
    managed::{self, INJECTED_PREFIX, ManagedVolume},
    rule::{AI001, AI003, AI203},
};
use crate::{
    api,
    identity::{account_name, agent_of_account},
    index::{DEFAULT_ACCOUNT, Identity, Snapshot, Standing},
};
use json_patch::{
    AddOperation, Patch, PatchOperation, RemoveOperation, ReplaceOperation, jsonptr::PointerBuf,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What is to happen to a pod before it is judged.
#[derive(Debug)]
pub enum Mutation<'a> {
    /// The pod names no agent: not ours.
    NotAnAgent,
    /// The pod can be made the agent's.
    Patch {
        /// What to change; empty if all is as it should be.
        operations: Patch,
        /// What the requester should know.
        warnings: Vec<Finding>,
        /// The agent.
        identity: &'a Identity,
    },
    /// The pod contradicts itself or its identity.
    Refuse(Vec<Finding>),
    /// The identity or its account is not there. It may be on its way, as when both are applied from one file: decide
    /// again on a newer snapshot, and at the deadline refuse with this finding.
    Wait(Finding),
}

/// Decides how `pod`, being created in `namespace`, is made its agent's.
///
/// # Errors
/// When `pod` is not shaped like a pod.
pub fn mutate<'a>(
    pod: &Value,
    namespace: &str,
    snapshot: &'a Snapshot,
    settings: &Settings,
) -> Result<Mutation<'a>, Malformed> {
    let facts = PodFacts::read(pod)?;
    let agent = match named_agent(&facts) {
        Ok(Some(agent)) => agent,
        Ok(None) => return Ok(Mutation::NotAnAgent),
        Err(finding) => return Ok(Mutation::Refuse(vec![finding])),
    };
    let identity = match snapshot.standing(namespace, agent) {
        Standing::Valid(identity) => identity,
        standing => {
            let finding = checks::identity::not_usable(agent, namespace, standing);
            return Ok(if standing.may_be_on_its_way() {
                Mutation::Wait(finding)
            } else {
                Mutation::Refuse(vec![finding])
            });
        }
    };
    let issuer = settings.issuer.as_deref();
    let volumes = managed::volumes(identity, issuer);
    let consumer = match managed::consumer(&facts, &volumes) {
        Ok(consumer) => consumer,
        Err(finding) => return Ok(Mutation::Refuse(vec![finding])),
    };
    let suspension = snapshot.suspension(namespace, agent);
    if let (Some(suspension), Some(_)) = (suspension, facts.node_name) {
        let what = "a pod that names its node cannot be made to wait";
        return Ok(Mutation::Refuse(vec![checks::identity::suspended(
            agent,
            suspension,
            "spec.nodeName",
            what,
        )]));
    }
    let mut draft = Draft { pod: pod.clone(), operations: vec![] };
    draft.identify(agent, identity)?;
    draft.put(&["spec", "automountServiceAccountToken"], &json!(false))?;
    draft.drop_injected_volumes()?;
    for volume in &volumes {
        draft.put_volume(volume, consumer)?;
    }
    if let (Some(issuer), Some(consumer)) = (issuer, consumer) {
        draft.put_environment(issuer, consumer)?;
    }
    draft.set_pull_secrets(identity)?;
    draft.gate(&facts, suspension.is_some())?;
    let warnings = dropped_pull_secrets(&facts, identity, namespace, snapshot);
    Ok(Mutation::Patch { operations: Patch(draft.operations), warnings, identity })
}

/// The agent a pod names by label or by account; a pod that names two, or none with a label, contradicts itself.
fn named_agent<'a>(facts: &PodFacts<'a>) -> Result<Option<&'a str>, Finding> {
    let account = facts.account.or(facts.account_alias);
    let by_account = account.and_then(agent_of_account);
    match (facts.label, account) {
        (Some(""), _) => Err(Finding::deny(&AI001, LABEL_PATH, "is empty: it names no agent")),
        (Some(label), None | Some(DEFAULT_ACCOUNT)) => Ok(Some(label)),
        (Some(label), Some(_)) if by_account == Some(label) => Ok(Some(label)),
        (Some(label), Some(account)) => Err(Finding::deny(
            &AI003,
            "spec.serviceAccountName",
            format!("the pod is labelled for agent {label:?} and asks for account {account:?}"),
        )),
        (None, _) => Ok(by_account),
    }
}

/// A warning for each pull secret that the pod brought and loses. Those that Kubernetes copied from the `default`
/// account are not the requester's doing and go silently.
fn dropped_pull_secrets(
    facts: &PodFacts<'_>,
    identity: &Identity,
    namespace: &str,
    snapshot: &Snapshot,
) -> Vec<Finding> {
    let default = snapshot.account(namespace, DEFAULT_ACCOUNT).map_or(&[][..], |a| &a.image_pull_secrets);
    let is_in = |list: &[String], name: &str| list.iter().any(|known| known == name);
    facts
        .pull_secrets
        .iter()
        .enumerate()
        .filter(|(_, name)| !is_in(&identity.image_pull_secrets, name) && !is_in(default, name))
        .map(|(index, name)| {
            let path = format!("spec.imagePullSecrets[{index}]");
            Finding::warn(&AI203, path, format!("Secret {name:?} is not the agent's and was removed"))
        })
        .collect()
}

/// A patch in the making: each operation is applied to a copy at once, so that the next one sees its result.
struct Draft {
    pod: Value,
    operations: Vec<PatchOperation>,
}

impl Draft {
    /// Label, stamp and account say who the pod is.
    fn identify(&mut self, agent: &str, identity: &Identity) -> Result<(), Malformed> {
        self.put_entry("labels", api::AGENT_LABEL, agent)?;
        self.put_entry("annotations", api::IDENTITY_UID_ANNOTATION, &identity.uid)?;
        let account = json!(account_name(agent));
        if self.pod.pointer("/spec/serviceAccount").is_some() {
            self.put(&["spec", "serviceAccount"], &account)?;
        }
        self.put(&["spec", "serviceAccountName"], &account)
    }

    /// Takes out the token volume that the ServiceAccount plugin injected before us, with its mounts. Only what looks
    /// exactly like it: anything else of that name is somebody's own, and AI108's to refuse.
    fn drop_injected_volumes(&mut self) -> Result<(), Malformed> {
        let names = self.remove_all(&["spec", "volumes"], is_injected)?;
        if names.is_empty() {
            return Ok(());
        }
        for list in ["initContainers", "containers"] {
            for container in 0..self.list(&["spec", list]).len() {
                let mounts = ["spec", list, &container.to_string(), "volumeMounts"];
                self.remove_all(&mounts, |mount| {
                    mount["name"].as_str().is_some_and(|name| names.contains(name))
                })?;
            }
        }
        Ok(())
    }

    /// Removes the items of a list that are `unwanted`, last first so that the rest keep their places until it is their
    /// turn; returns their names.
    fn remove_all(
        &mut self,
        list: &[&str],
        unwanted: impl Fn(&Value) -> bool,
    ) -> Result<BTreeSet<String>, Malformed> {
        let items = self.list(list).iter().enumerate().filter(|(_, item)| unwanted(item));
        let found: Vec<_> = items
            .map(|(index, item)| (index, item["name"].as_str().unwrap_or_default().to_owned()))
            .collect();
        for (index, _) in found.iter().rev() {
            self.remove(list, *index)?;
        }
        Ok(found.into_iter().map(|(_, name)| name).collect())
    }

    /// Makes a managed volume stand in the pod as the identity declares it, mounted in its one consumer.
    fn put_volume(&mut self, managed: &ManagedVolume, consumer: Option<usize>) -> Result<(), Malformed> {
        let (Some(desired), Some(consumer)) = (managed.desired(), consumer) else { return Ok(()) };
        self.put_named(&["spec", "volumes"], managed.name, desired)?;
        let mounts = ["spec", "containers", &consumer.to_string(), "volumeMounts"];
        self.put_named(&mounts, managed.name, &managed.mount())
    }

    /// Says in the environment of the one consumer where the broker is. Of several variables of one name the last counts, so
    /// each is set; one that its author put somewhere stays there, where others may refer to it.
    fn put_environment(&mut self, issuer: &str, consumer: usize) -> Result<(), Malformed> {
        let consumer = consumer.to_string();
        let env = ["spec", "containers", &consumer, "env"];
        for (name, value) in managed::environment(issuer) {
            let desired = managed::variable(name, &value);
            let named = self.list(&env).iter().enumerate().filter(|(_, variable)| variable["name"] == name);
            for index in named.map(|(index, _)| index.to_string()).collect::<Vec<_>>() {
                self.put(&[&env[..], &[&index]].concat(), &desired)?;
            }
            self.put_named(&env, name, &desired)?;
        }
        Ok(())
    }

    /// Sets the list exactly. The ServiceAccount plugin runs again after us and fills an empty list from the pod's
    /// account: by then the agent's own, which has the same list.
    fn set_pull_secrets(&mut self, identity: &Identity) -> Result<(), Malformed> {
        let desired: Vec<_> = identity.image_pull_secrets.iter().map(|name| json!({"name": name})).collect();
        if self.list(&["spec", "imagePullSecrets"]) == desired {
            return Ok(());
        }
        self.put(&["spec", "imagePullSecrets"], &Value::Array(desired))
    }

    /// Holds back a suspended agent's pod; marks what waits, whoever made it wait, and nothing else.
    fn gate(&mut self, facts: &PodFacts<'_>, is_suspended: bool) -> Result<(), Malformed> {
        if is_suspended {
            let gate = json!({"name": api::SUSPENDED_GATE});
            self.put_named(&["spec", "schedulingGates"], api::SUSPENDED_GATE, &gate)?;
        }
        if is_suspended || facts.is_gated {
            self.put_entry("annotations", api::GATED_ANNOTATION, "true")?;
        } else if facts.is_marked_gated {
            let path = PointerBuf::from_tokens(["metadata", "annotations", api::GATED_ANNOTATION]);
            self.apply(PatchOperation::Remove(RemoveOperation { path }))?;
        }
        Ok(())
    }

    /// Sets an entry of the pod's labels or annotations.
    fn put_entry(&mut self, map: &str, key: &str, value: &str) -> Result<(), Malformed> {
        if self.get(&["metadata", map]).is_none_or(Value::is_null) {
            self.put(&["metadata", map], &json!({}))?;
        }
        self.put(&["metadata", map, key], &json!(value))
    }

    /// Puts `item` where the item of that name stands in a list, or at its end.
    fn put_named(&mut self, list: &[&str], name: &str, item: &Value) -> Result<(), Malformed> {
        if let Some(index) = self.list(list).iter().position(|present| present["name"] == name) {
            let index = index.to_string();
            return self.put(&[list, &[&index]].concat(), item);
        }
        if self.get(list).is_none_or(Value::is_null) {
            self.put(list, &json!([]))?;
        }
        self.apply(PatchOperation::Add(AddOperation {
            path: PointerBuf::from_tokens([list, &["-"]].concat()),
            value: item.clone(),
        }))
    }

    /// Puts `value` at `path`, whose parent exists; nothing if it is there already.
    fn put(&mut self, path: &[&str], value: &Value) -> Result<(), Malformed> {
        let (at, value) = (PointerBuf::from_tokens(path.iter().copied()), value.clone());
        match self.get(path) {
            Some(present) if *present == value => Ok(()),
            Some(_) => self.apply(PatchOperation::Replace(ReplaceOperation { path: at, value })),
            None => self.apply(PatchOperation::Add(AddOperation { path: at, value })),
        }
    }

    fn remove(&mut self, list: &[&str], index: usize) -> Result<(), Malformed> {
        let path = PointerBuf::from_tokens([list, &[index.to_string().as_str()]].concat());
        self.apply(PatchOperation::Remove(RemoveOperation { path }))
    }

    fn apply(&mut self, operation: PatchOperation) -> Result<(), Malformed> {
        json_patch::patch(&mut self.pod, std::slice::from_ref(&operation)).map_err(|e| Malformed {
            path: e.path.to_string(),
            expected: "a place the pod's patch applies to",
        })?;
        self.operations.push(operation);
        Ok(())
    }

    fn get(&self, path: &[&str]) -> Option<&Value> {
        PointerBuf::from_tokens(path.iter().copied()).resolve(&self.pod).ok()
    }

    fn list(&self, path: &[&str]) -> &[Value] {
        self.get(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }
}

/// Whether a volume is the one the ServiceAccount plugin injects: by its name's prefix and by every source in it.
fn is_injected(volume: &Value) -> bool {
    let name = volume["name"].as_str().unwrap_or_default();
    let sources = volume["projected"]["sources"].as_array().map_or(&[][..], Vec::as_slice);
    let token = |s: &Value| s["serviceAccountToken"]["audience"].as_str().unwrap_or_default().is_empty();
    name.starts_with(INJECTED_PREFIX)
        && matches!(sources, [first, second, third]
            if first["serviceAccountToken"].is_object() && token(first)
                && second["configMap"]["name"] == "kube-root-ca.crt"
                && third["downwardAPI"].is_object())
}

#[cfg(test)]
mod tests;
