//! Objects into findings: by the decisions of the webhook, and what they need to be asked.

use super::{
    Unread,
    inputs::{Input, Role},
    world::World,
};
use crate::{
    api::AGENT_LABEL,
    identity::agent_of_account,
    index::Standing,
    policy::{self, Action, Finding, Malformed, Subject, Template, admit_foreign_template, admit_template},
};
use serde_json::{Value, json};
use std::{borrow::Cow, sync::Arc};

/// Everything that was found.
#[derive(Debug, Default)]
pub struct Report {
    /// Every object that was looked at, in the order of the input.
    pub results: Vec<Judged>,
    /// What could not be read or judged, by file.
    pub unread: Vec<(Arc<str>, Unread)>,
    /// Documents there is nothing to say of.
    pub skipped: usize,
}

/// An object, and what is wrong with it.
#[derive(Debug)]
pub struct Judged {
    /// The file.
    pub source: Arc<str>,
    /// The place of the document in it, counted from one.
    pub document: usize,
    /// Its kind.
    pub kind: String,
    /// Its namespace; nothing for one that is of the whole cluster.
    pub namespace: String,
    /// Its name, or the beginning of it.
    pub name: String,
    /// What is wrong.
    pub findings: Vec<Located>,
}

/// A finding with the line it is about.
#[derive(Debug)]
pub struct Located {
    /// What is wrong.
    pub finding: Finding,
    /// The line in the file, counted from one.
    pub line: usize,
}

impl Judged {
    /// Whether something about it would be refused, or warned of.
    pub fn has(&self, action: Action) -> bool {
        self.findings.iter().any(|located| located.finding.action == action)
    }
}

impl Report {
    /// How many objects have something that would be refused.
    pub fn denied(&self) -> usize {
        self.results.iter().filter(|judged| judged.has(Action::Deny)).count()
    }

    /// How many have nothing worse than a warning.
    pub fn warned(&self) -> usize {
        self.results.iter().filter(|judged| judged.has(Action::Warn) && !judged.has(Action::Deny)).count()
    }
}

impl World {
    /// Judges every object.
    pub fn judge(mut self) -> Report {
        let mut report = Report { skipped: self.skipped, ..Report::default() };
        for at in 0..self.objects.len() {
            match self.findings(at) {
                Ok(findings) => report.results.push(self.judged(at, findings)),
                Err(Malformed { path, expected }) => {
                    self.cannot(
                        at,
                        &path,
                        &format!("is not as Kubernetes would have it: at {path}, {expected} is expected"),
                    );
                }
            }
        }
        report.unread = self.unread;
        report
    }

    fn judged(&self, at: usize, findings: Vec<Finding>) -> Judged {
        let Input { source, document, object } = &self.objects[at];
        let text = |path: &str| object.value["metadata"][path].as_str().map(str::to_owned);
        let kind = object.value["kind"].as_str().unwrap_or_default();
        let of_cluster = matches!(
            kind,
            "AgentException" | "CredentialClaim" | "Namespace" | "ProtectedResource" | "TrustedIssuer"
        );
        let located = |finding: Finding| Located { line: object.lines.of(&finding.path), finding };
        let mut findings: Vec<_> = findings.into_iter().map(located).collect();
        findings.sort_by_key(|located| located.line);
        Judged {
            source: Arc::clone(source),
            document: *document,
            kind: kind.to_owned(),
            namespace: if of_cluster { String::new() } else { self.namespace(&object.value).to_owned() },
            name: text("name").or_else(|| text("generateName")).unwrap_or_default(),
            findings,
        }
    }

    /// What is wrong with an object.
    fn findings(&self, at: usize) -> Result<Vec<Finding>, Malformed> {
        let value = &self.objects[at].object.value;
        match (Role::of(value), Template::of_manifest(value)) {
            (Role::Pods, Some(template)) => self.of_template(value, template),
            (Role::Identity, _) => Ok(self.of_identity(at, value)),
            _ => Ok(vec![]),
        }
    }

    fn of_template(&self, value: &Value, template: Template<'_>) -> Result<Vec<Finding>, Malformed> {
        let namespace = self.namespace(value);
        let assumed = self.assumed.get(namespace).filter(|_| !self.is_agents(value, template, namespace));
        let value = match assumed {
            None => Cow::Borrowed(value),
            Some(agent) => Cow::Owned(as_of(value, template, agent)),
        };
        let Some(template) = Template::of_manifest(&value) else { return Ok(vec![]) };
        let (now, settings) = (self.options.now, &self.options.settings);
        if let Some(admission) = admit_template(template, namespace, &self.snapshot, now, settings)? {
            return Ok(admission.findings);
        }
        // Where the webhook is asked about such pods, in the order of what it is asked.
        let enforced = self.enforced.get(namespace).map_or("", String::as_str);
        let subjects: &[Subject] = match enforced {
            _ if namespace == "kube-system" => &[],
            "all" => &[Subject::Pod, Subject::ForeignPod],
            "agents" => &[Subject::ForeignPod],
            _ => &[],
        };
        let mut findings: Vec<Finding> = vec![];
        for subject in subjects {
            let admission =
                admit_foreign_template(template, namespace, *subject, &self.snapshot, now, settings)?;
            findings.extend(admission.findings);
        }
        Ok(findings)
    }

    /// Whether a pod names an agent of the input, and one only.
    fn is_agents(&self, value: &Value, template: Template<'_>, namespace: &str) -> bool {
        let pod = template.path().iter().fold(value, |value, key| &value[key]);
        let label = pod["metadata"]["labels"][AGENT_LABEL].as_str();
        let account =
            pod["spec"]["serviceAccountName"].as_str().or_else(|| pod["spec"]["serviceAccount"].as_str());
        let agent = match (label, account) {
            (Some(label), None | Some("" | "default")) => Some(label),
            (Some(label), Some(account)) => agent_of_account(account).filter(|agent| *agent == label),
            (None, account) => account.and_then(agent_of_account),
        };
        agent.is_some_and(|agent| matches!(self.snapshot.standing(namespace, agent), Standing::Valid(_)))
    }

    fn of_identity(&self, at: usize, value: &Value) -> Vec<Finding> {
        let name = value["metadata"]["name"].as_str().unwrap_or_default();
        let mut findings = vec![];
        if self.unreadable.contains(&at) {
            return findings;
        }
        if let Standing::Invalid(why) = self.snapshot.standing(self.namespace(value), name) {
            findings.push(policy::invalid_identity(why));
        }
        for subject in self.contested.get(&at).into_iter().flatten() {
            let claim = self.snapshot.claim(subject);
            let holder = claim.map_or("another", |claim| claim.holder.name.as_str());
            findings.push(policy::contested(subject, holder));
        }
        findings
    }
}

/// The object with its pod an agent's, whatever it said of that.
fn as_of(value: &Value, template: Template<'_>, agent: &str) -> Value {
    let mut value = value.clone();
    let pod = template.path().iter().fold(&mut value, |value, key| &mut value[key]);
    if let Some(spec) = pod["spec"].as_object_mut() {
        spec.remove("serviceAccountName");
        spec.remove("serviceAccount");
    }
    // What is shaped otherwise is told by who reads it.
    if pod.is_object() {
        let metadata = &mut pod["metadata"];
        if metadata.is_null() {
            *metadata = json!({});
        }
        if let Some(labels) = metadata.as_object_mut().map(|m| m.entry("labels").or_insert(Value::Null)) {
            if labels.is_null() {
                *labels = json!({});
            }
            if let Some(labels) = labels.as_object_mut() {
                labels.insert(AGENT_LABEL.to_owned(), agent.into());
            }
        }
    }
    value
}
