//! Static credentials: one holder, and what it takes to change hands.

use crate::support::{IMAGE, Namespace, Said, apply, eventually, figure, get, kubectl};
use serde_json::Value;
use std::time::Instant;

const END: &str = "2099-01-01T00:00:00Z";

impl Namespace {
    /// A namespace in which nobody else may name what an agent holds, with a Secret.
    pub fn enforced() -> Self {
        let ns = Self::new();
        kubectl(&["label", "namespace", &ns.0, "deputy.dev/enforce=agents"]).accepted();
        ns.kubectl(&["create", "secret", "generic", "db", "--from-literal=password=a-word"]).accepted();
        ns
    }

    /// An identity that declares the Secret.
    pub fn declares(&self, name: &str, end: &str) -> Said {
        self.identity(
            name,
            &format!(
                ", credentials: [{{name: db, type: Secret, secret: {{secretName: db, keys: [password]}}, \
                 reason: it has no other way, expirationTime: {end:?}}}]"
            ),
        )
    }

    fn condition(&self, name: &str, type_: &str) -> (String, String) {
        let identity = get(&["-n", &self.0, "agentidentity", name]);
        let conditions = identity["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let condition = conditions.into_iter().find(|c| c["type"] == type_).unwrap_or_default();
        let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        (text("reason"), text("message"))
    }

    pub fn has_reason(&self, name: &str, type_: &str, reason: &str) {
        eventually(&format!("{name}: {type_} is {reason}"), || {
            (self.condition(name, type_).0 == reason).then_some(())
        });
    }

    /// A pod that uses the Secret as declared.
    pub fn with_secret(&self, pod: &str, agent: &str) -> String {
        let mounted =
            "volumes: [{name: db, secret: {secretName: db, items: [{key: password, path: password}]}}]";
        self.pod(pod, agent, &format!(", {mounted}")).replace(
            "imagePullPolicy: Never",
            "imagePullPolicy: Never, volumeMounts: [{name: db, mountPath: /db}]",
        )
    }

    pub fn holder(&self) -> Option<(String, bool)> {
        let claims = get(&["credentialclaims"]);
        let is_ours =
            |claim: &&Value| claim.pointer("/spec/subject/secret/namespace") == Some(&self.0.clone().into());
        let claim = claims["items"].as_array()?.iter().find(is_ours)?;
        let holder = claim.pointer("/spec/holder/name").and_then(Value::as_str)?;
        Some((holder.to_owned(), claim.pointer("/spec/releasedTime").is_some()))
    }
}

/// One file with identity and pod is enough; the pod reads what it declared, and nobody else names it.
#[test]
fn one_agent_uses_its_secret_and_nobody_else() {
    let ns = Namespace::enforced();
    ns.declares("a", END).accepted();
    apply(&ns.with_secret("p", "a")).accepted();
    ns.runs("p");
    let log =
        ns.kubectl(&["get", "pod", "p", "-o", "jsonpath={.spec.volumes[?(@.name=='db')].secret.secretName}"]);
    assert_eq!(log.accepted(), "db");
    ns.declares("b", END).accepted();
    ns.has_reason("b", "CredentialsClaimed", "HeldByAnother");
    ns.has_reason("b", "Ready", "HeldByAnother");
    assert!(ns.condition("b", "Stalled").1.contains("held by AgentIdentity \"a\""));
    apply(&ns.with_secret("q", "b")).refused("[AI301]");
    ns.has_reason("a", "Ready", "AccountReady");

    let other = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: other, namespace: {}}}, spec: {{containers: [{{name: c, image: \
         \"{IMAGE}\", envFrom: [{{secretRef: {{name: SECRET}}}}]}}]}}}}",
        ns.0
    );
    apply(&other.replace("SECRET", "db")).refused("[AI301]");
    apply(&other.replace("SECRET", "something-else")).accepted();
    let debug = ["debug", "other", "--image", IMAGE, "--custom=/dev/stdin", "--", "true"];
    let patched = crate::support::run(
        "kubectl",
        &[&["-n", ns.0.as_str()], &debug[..]].concat(),
        "{\"envFrom\": [{\"secretRef\": {\"name\": \"db\"}}]}",
    );
    patched.refused("[AI301]");
}

/// Whoever used it before anybody declared it is in the way like any other.
#[test]
fn a_pod_of_nobody_keeps_a_secret_from_being_claimed() {
    let ns = Namespace::enforced();
    let nobody = |name: &str| {
        apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: {}}}, spec: {{terminationGracePeriodSeconds: 0, \
             containers: [{{name: c, image: \"{IMAGE}\", imagePullPolicy: Never, command: [sleep, \"3600\"]}}], volumes: \
             [{{name: s, secret: {{secretName: db}}}}]}}}}",
            ns.0
        ))
    };
    nobody("early").accepted();
    ns.runs("early");
    ns.declares("a", END).accepted();
    eventually("the pod of nobody is in the way", || {
        let (reason, message) = ns.condition("a", "CredentialsClaimed");
        (reason == "ClaimPending" && message.ends_with(": early")).then_some(())
    });
    apply(&ns.with_secret("p", "a")).refused("[AI301]");
    ns.kubectl(&["delete", "pod", "early"]).accepted();
    ns.has_reason("a", "CredentialsClaimed", "Claimed");
    apply(&ns.with_secret("p", "a")).accepted();
    nobody("late").refused("[AI301]");

    // Whoever gets in while the label is off keeps its holder from having it again.
    kubectl(&["label", "namespace", &ns.0, "deputy.dev/enforce-"]).accepted();
    ns.has_reason("a", "Ready", "NamespaceNotEnforced");
    nobody("late").accepted();
    kubectl(&["label", "namespace", &ns.0, "deputy.dev/enforce=agents"]).accepted();
    eventually("the pod of nobody is in the way again", || {
        ns.condition("a", "CredentialsClaimed").1.ends_with(": late").then_some(())
    });
    ns.kubectl(&["delete", "pod", "late"]).accepted();
    ns.has_reason("a", "CredentialsClaimed", "Claimed");
}

/// A claim changes hands only when no pod of its holder's can use the credential any more.
#[test]
fn a_hand_over_waits_for_the_quiet_period_and_for_old_pods() {
    let ns = Namespace::enforced();
    ns.declares("a", END).accepted();
    apply(&ns.with_secret("p", "a")).accepted();
    ns.runs("p");
    ns.declares("b", END).accepted();
    ns.has_reason("b", "Ready", "HeldByAnother");
    ns.identity("a", ", credentials: []").accepted();
    let since = Instant::now();
    eventually("the claim is released", || (ns.holder() == Some(("a".into(), true))).then_some(()));
    apply(&ns.with_secret("late", "a")).refused("[AI202]");
    apply(&ns.with_secret("q", "b")).refused("[AI301]");
    eventually("the old pod is in the way", || {
        ns.condition("b", "CredentialsClaimed")
            .1
            .contains("pods of AgentIdentity \"a\" to end: p")
            .then_some(())
    });
    figure(&format!("claim: quiet period over {:.1} s after its release", since.elapsed().as_secs_f64()));
    ns.kubectl(&["delete", "pod", "p"]).accepted();
    let gone = Instant::now();
    eventually("the claim changed hands", || (ns.holder() == Some(("b".into(), false))).then_some(()));
    figure(&format!("claim: handed over {:.1} s after the last pod", gone.elapsed().as_secs_f64()));
    apply(&ns.with_secret("q", "b")).accepted();
    ns.runs("q");
    ns.kubectl(&["delete", "agentidentity", "b"]).accepted();
    eventually("the claim of one that is gone is released", || {
        ns.holder().is_some_and(|h| h.1).then_some(())
    });
    ns.kubectl(&["delete", "pod", "q"]).accepted();
    eventually("and is no more", || ns.holder().is_none().then_some(()));
}

/// Deleting a claim takes the credential away: its holder comes last, and its pods are told of and not killed.
#[test]
fn a_claim_can_be_taken_away_but_not_written() {
    let ns = Namespace::enforced();
    ns.declares("a", END).accepted();
    ns.has_reason("a", "CredentialsClaimed", "Claimed");
    ns.declares("b", END).accepted();
    ns.has_reason("b", "Ready", "HeldByAnother");
    let claims = get(&["credentialclaims"]);
    let claims = claims["items"].as_array().unwrap().clone();
    let ours = |claim: &Value| claim.pointer("/spec/subject/secret/namespace") == Some(&ns.0.clone().into());
    let mut claim = claims.into_iter().find(ours).unwrap();
    let name = claim["metadata"]["name"].as_str().unwrap().to_owned();
    claim["spec"]["holder"]["name"] = "b".into();
    crate::support::run("kubectl", &["replace", "-f", "-"], &claim.to_string())
        .refused("by Deputy's controller alone");

    kubectl(&["delete", "credentialclaim", &name]).accepted();
    ns.has_reason("a", "CredentialsClaimed", "ClaimPending");
    eventually("the other has it", || (ns.holder() == Some(("b".into(), false))).then_some(()));
    ns.has_reason("a", "CredentialsClaimed", "HeldByAnother");
}

#[test]
fn a_credential_is_nobodys_where_anybody_could_use_it_and_ends() {
    let ns = Namespace::enforced();
    kubectl(&["label", "namespace", &ns.0, "deputy.dev/enforce-"]).accepted();
    ns.declares("a", END).accepted();
    ns.has_reason("a", "Ready", "NamespaceNotEnforced");
    apply(&ns.with_secret("p", "a")).refused("[AI301]");
    kubectl(&["label", "namespace", &ns.0, "deputy.dev/enforce=agents"]).accepted();
    ns.has_reason("a", "Ready", "AccountReady");
    apply(&ns.with_secret("p", "a")).accepted();
    // Told ahead, and in force when it comes; the pod that runs goes on and is named.
    let soon = |seconds: &str| {
        let said = crate::support::run("date", &["-u", "-d", seconds, "+%Y-%m-%dT%H:%M:%SZ"], "").accepted();
        said.trim().to_owned()
    };
    ns.declares("a", &soon("+6 seconds")).accepted();
    ns.has_reason("a", "CredentialsExpiring", "ExpiresSoon");
    ns.has_reason("a", "Ready", "Expired");
    assert!(ns.condition("a", "CredentialsExpiring").1.contains("still use it: p"));
    apply(&ns.with_secret("q", "a")).refused("[AI202]");
    let events = ns.kubectl(&["get", "events", "-o", "jsonpath={.items[*].reason}"]).accepted();
    assert!(events.contains("ExpiresSoon") && events.contains("Expired"), "{events}");
}

/// A cloud role has one holder in the cluster, and the account of nobody else says otherwise.
#[test]
fn a_cloud_role_is_one_agents_alone() {
    let (ns, other) = (Namespace::enforced(), Namespace::enforced());
    let role = format!("arn:aws:iam::111122223333:role/{}", ns.0);
    let spec = format!(", serviceAccount: {{annotations: {{eks.amazonaws.com/role-arn: {role:?}}}}}");
    let shown = |ns: &Namespace| {
        let account = get(&["-n", &ns.0, "serviceaccount", "agent.a"]);
        account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"].as_str().map(str::to_owned)
    };
    ns.identity("a", &spec).accepted();
    eventually("the role is on the account", || {
        ns.kubectl(&["get", "serviceaccount", "agent.a"])
            .ok
            .then(|| shown(&ns))
            .flatten()
            .filter(|r| *r == role)
    });
    other.identity("a", &spec).accepted();
    other.has_reason("a", "Ready", "HeldByAnother");
    assert!(other.condition("a", "Ready").1.contains(&format!("of namespace {:?}", ns.0)));
    assert_eq!(shown(&other), None);
    // Every pod of the holder's has the role, whatever it mounts.
    apply(&ns.pod("p", "a", "")).accepted();
    ns.runs("p");
    ns.identity("a", ", serviceAccount: {annotations: {}}").accepted();
    eventually("the account has it no more", || shown(&ns).is_none().then_some(()));
    eventually("the old pod is in the way", || {
        let (reason, message) = other.condition("a", "CredentialsClaimed");
        (reason == "ClaimPending" && message.ends_with(": p")).then_some(())
    });
    assert_eq!(shown(&other), None);
    ns.kubectl(&["delete", "pod", "p"]).accepted();
    eventually("the other has it", || shown(&other).filter(|r| *r == role));
    assert_eq!(shown(&ns), None);
    other.identity("b", ", serviceAccount: {annotations: {example.com/x: role}}").accepted();
    other.has_reason("b", "Accepted", "Invalid");
}
