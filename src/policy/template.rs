//! What a workload's template leads to: judged as the pod that Kubernetes' controllers will make of it, after mutation.

use super::{Admission, Finding, Malformed, Mutation, Settings, Subject, admit, mutate};
use crate::index::Snapshot;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

/// Where the built-in workloads keep the template of their pods: API group, kind, and path from the object.
const TEMPLATES: [(&str, &str, &[&str]); 8] = [
    ("", "PodTemplate", &["template"]),
    ("", "ReplicationController", &["spec", "template"]),
    ("apps", "DaemonSet", &["spec", "template"]),
    ("apps", "Deployment", &["spec", "template"]),
    ("apps", "ReplicaSet", &["spec", "template"]),
    ("apps", "StatefulSet", &["spec", "template"]),
    ("batch", "CronJob", &["spec", "jobTemplate", "spec", "template"]),
    ("batch", "Job", &["spec", "template"]),
];

/// The template of a workload's pods.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Template<'a> {
    pod: &'a Value,
    path: &'static [&'static str],
}

impl<'a> Template<'a> {
    /// The template of `workload`, if it is of a built-in kind that has one.
    pub fn of(workload: &'a Value) -> Option<Self> {
        let version = workload["apiVersion"].as_str()?;
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let kind = workload["kind"].as_str()?;
        let (.., path) = TEMPLATES.iter().find(|(of, named, _)| (*of, *named) == (group, kind))?;
        let pod = path.iter().try_fold(workload, |value, key| value.get(key))?;
        Some(Self { pod, path })
    }

    /// As [`Self::of`]; a pod, which is what it says, is its own template.
    pub fn of_manifest(object: &'a Value) -> Option<Self> {
        let is_pod = object["apiVersion"] == "v1" && object["kind"] == "Pod";
        if is_pod { Some(Self { pod: object, path: &[] }) } else { Self::of(object) }
    }

    /// Where in its object it stands.
    pub fn path(&self) -> &'static [&'static str] {
        self.path
    }

    /// The pod it leads to. Unlike an object, a template may have no metadata.
    fn pod(&self) -> Value {
        let mut pod = self.pod.clone();
        if let Some(fields) = pod.as_object_mut() {
            fields.entry("metadata").or_insert_with(|| json!({}));
        }
        pod
    }

    /// The findings of its pod, where the object has them.
    fn placed(&self, findings: Vec<Finding>) -> Vec<Finding> {
        if self.path.is_empty() {
            return findings;
        }
        let root = self.path.join(".");
        findings.into_iter().map(|finding| finding.under(&root)).collect()
    }
}

/// Judges the pods of a template of `namespace` as they would be at `now`: what [`mutate()`] makes of them, or why it would
/// not. `None` if they name no agent. Paths of findings are the workload's.
///
/// # Errors
/// When the template is not shaped like a pod.
pub fn admit_template<'a>(
    template: Template<'_>,
    namespace: &str,
    snapshot: &'a Snapshot,
    now: Timestamp,
    settings: &Settings,
) -> Result<Option<Admission<'a>>, Malformed> {
    let mut pod = template.pod();
    let refused = |findings, awaited| Admission { findings, exceptions: vec![], identity: None, awaited };
    let mut admission = match mutate(&pod, namespace, snapshot, settings)? {
        Mutation::NotAnAgent => return Ok(None),
        Mutation::Refuse(findings) => refused(findings, false),
        Mutation::Wait(finding) => refused(vec![finding], true),
        Mutation::Patch { operations, warnings, .. } => {
            json_patch::patch(&mut pod, &operations).map_err(|e| Malformed {
                path: e.path.to_string(),
                expected: "a place the pod's patch applies to",
            })?;
            let mut admission = admit(&pod, namespace, Subject::Pod, snapshot, now, settings)?;
            admission.findings.splice(..0, warnings);
            admission
        }
    };
    admission.findings = template.placed(admission.findings);
    Ok(Some(admission))
}

/// Judges the pods of a template as they stand, for what they are: nobody's that Deputy would change.
///
/// # Errors
/// When the template is not shaped like a pod.
pub fn admit_foreign_template<'a>(
    template: Template<'_>,
    namespace: &str,
    subject: Subject,
    snapshot: &'a Snapshot,
    now: Timestamp,
    settings: &Settings,
) -> Result<Admission<'a>, Malformed> {
    let mut admission = admit(&template.pod(), namespace, subject, snapshot, now, settings)?;
    admission.findings = template.placed(admission.findings);
    Ok(admission)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_has_its_template_and_nothing_else_has() {
        for (group, kind, path) in TEMPLATES {
            let version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
            let mut object = json!({"kind": "T"});
            for key in path.iter().rev() {
                object = json!({ *key: object });
            }
            object["apiVersion"] = version.into();
            object["kind"] = kind.into();
            let template = Template::of(&object).unwrap();
            assert_eq!((template.pod, template.path), (&json!({"kind": "T"}), path));
        }
        for other in [
            json!({"apiVersion": "v1", "kind": "Pod", "spec": {"template": {}}}),
            json!({"apiVersion": "example.com/v1", "kind": "Deployment", "spec": {"template": {}}}),
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {}}),
            json!([]),
        ] {
            assert_eq!(Template::of(&other), None);
        }
    }
}
