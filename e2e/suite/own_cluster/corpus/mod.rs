//! The negative corpus: what must not lead to a token, over HTTP, against a broker that runs as it is shipped. Each case is
//! called `corpus_NN_name`. What was not done is looked at too: no question to the API server, no fetch, no token; and that
//! what is to be on record is there.
//!
//! Cases that need an API server that does as it is told are in `tests/integration/corpus.rs`.

mod actors;
mod again;
mod forms;
mod keys;
mod need;
mod subjects;

use super::{
    exchange::{Answer, GRANT, JWT, Replica, Scene, encoded},
    idp::{CLUSTER, Idp, Realm},
};
use crate::support::{apply, eventually, figure, get, kubectl};
use serde_json::{Value, json};
use std::{collections::BTreeSet, env, fs, path::PathBuf};

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

/// What a refusal says: error and reason. Its status is 400.
type Refusal = (&'static str, &'static str);

const fn invalid(reason: &'static str) -> Refusal {
    ("invalid_request", reason)
}

/// An agent, a resource, a provider with the realms `a` and `b`, and users of the realm `a` who may lend: alice, who has the
/// right to read, and carol, who has none.
struct Stage {
    scene: Scene,
    broker: Replica,
    idp: Idp,
    a: Realm,
    b: Realm,
}

impl Stage {
    fn new() -> Self {
        let (scene, broker, idp) = (Scene::new(), Replica::first(), Idp::new());
        let ns = &scene.ns.0;
        let [a, b] = ["a", "b"].map(|name| idp.realm(name, &format!("{ns}-{name}")));
        let stage = Self { a, b, scene, broker, idp };
        stage.users_may_lend();
        let alice = stage.a.token("alice", json!({}));
        eventually("alice may lend", || (stage.exchange(&alice, "read").status == 200).then_some(()));
        stage
    }

    fn ns(&self) -> &str {
        &self.scene.ns.0
    }

    fn users_may_lend(&self) {
        let ns = self.ns();
        let consent = json!({"spec": {"allowedAgents": [{"name": "here", "namespaces": {"names": [ns]},
            "modes": ["OnBehalfOfUser", "OnOwnBehalf"], "scopes": ["read", "search", "write"]}]}});
        kubectl(&["patch", "protectedresource", ns, "--type=merge", "-p", &consent.to_string()]).accepted();
        let policy = json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "DelegationPolicy",
            "metadata": {"name": "users", "namespace": ns}, "spec": {"agents": {"names": ["a"]}, "mode": "OnBehalfOfUser",
                "subjects": [{"trustedIssuerName": format!("{ns}-a"), "users": [format!("{ns}-a:alice"), format!("{ns}-a:carol")]}],
                "resources": [{"protectedResourceName": ns, "scopes": ["read", "write"]}],
                "token": {"maxLifetimeSeconds": 300}}});
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": ns},
            "rules": [{"apiGroups": ["deputy.dev"], "resources": ["protectedresources/scopes"], "resourceNames": [ns],
                "verbs": ["read"]}]});
        for object in [policy, role] {
            apply(&object.to_string()).accepted();
        }
        kubectl(&[
            "create",
            "clusterrolebinding",
            ns,
            "--clusterrole",
            ns,
            "--user",
            &format!("{ns}-a:alice"),
        ])
        .accepted();
    }

    /// An exchange for the user of `subject`, as it should be.
    fn form<'a>(&'a self, subject: &'a str, scope: &'a str) -> Vec<(&'a str, &'a str)> {
        on_behalf(&self.scene, subject, scope)
    }

    fn exchange(&self, subject: &str, scope: &str) -> Answer {
        self.broker.exchange(&self.form(subject, scope))
    }

    /// Begins to watch what is done.
    fn watch(&self) -> Watched<'_> {
        Watched::new(&self.scene, &self.broker)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for kind in ["clusterrole", "clusterrolebinding"] {
            kubectl(&["delete", kind, self.ns(), "--ignore-not-found"]);
        }
    }
}

fn on_behalf<'a>(scene: &'a Scene, subject: &'a str, scope: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("grant_type", GRANT),
        ("subject_token", subject),
        ("subject_token_type", ACCESS_TOKEN),
        ("actor_token", &scene.token),
        ("actor_token_type", JWT),
        ("resource", &scene.resource),
        ("scope", scope),
    ]
}

/// A form, one of whose values is another.
fn with<'a>(form: &[(&'a str, &'a str)], name: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    form.iter().map(|(present, was)| (*present, if *present == name { value } else { was })).collect()
}

/// Lines of the API server's audit log, and of what it has put away of that, about brokers' questions of this kind.
fn questions(kind: &str) -> Vec<String> {
    let (log, kind) =
        (PathBuf::from(env::var("CLUSTER_AUDIT_LOG").unwrap()), format!("\"resource\":\"{kind}\""));
    let is_ours = |line: &&str| line.contains(&kind) && line.contains(":deputy-system:deputy-broker\"");
    let folder = fs::read_dir(log.parent().unwrap()).unwrap().map(|file| file.unwrap().path());
    let files = folder.filter(|file| file.file_name().unwrap().to_string_lossy().starts_with("audit"));
    // audit-TIME.log, and last audit.log.
    let files: BTreeSet<_> = files.collect();
    let asked = |file: PathBuf| -> Vec<String> {
        fs::read_to_string(file).unwrap().lines().filter(is_ours).map(str::to_owned).collect()
    };
    files.into_iter().flat_map(asked).collect()
}

/// What a replica has on record.
fn record(replica: &Replica) -> Vec<Value> {
    let claim = get(&["-n", crate::support::SYSTEM, "pvc", &format!("record-{}", replica.name)]);
    let volume = claim["spec"]["volumeName"].as_str().unwrap().to_owned();
    let folder = PathBuf::from(format!("{CLUSTER}/node/lib/volumes/{volume}/record"));
    let entries = deputy::store::entries(&folder).unwrap();
    entries.map(|entry| serde_json::from_slice(&entry.unwrap().1).unwrap()).collect()
}

/// What is looked at while cases are tried.
struct Watched<'a> {
    scene: &'a Scene,
    broker: &'a Replica,
    /// Questions about users' rights at the beginning.
    reviews: usize,
    recorded: usize,
    /// What should be on record at the end: reasons, in their order.
    expected: Vec<&'static str>,
    cases: usize,
}

impl<'a> Watched<'a> {
    fn new(scene: &'a Scene, broker: &'a Replica) -> Self {
        let (reviews, recorded) = (questions("subjectaccessreviews").len(), record(broker).len());
        Self { scene, broker, reviews, recorded, expected: vec![], cases: 0 }
    }

    /// A request of nobody who is known: it is refused, and not recorded by itself.
    #[track_caller]
    fn stranger(&mut self, case: &str, form: &[(&str, &str)], status: u16, refusal: Refusal) {
        self.sent(case, &self.broker.post(&encoded(form)), status, refusal);
    }

    /// A request of the agent's: it is refused, and on record.
    #[track_caller]
    fn agent(&mut self, case: &str, form: &[(&str, &str)], refusal: Refusal) {
        self.sent(case, &self.broker.post(&encoded(form)), 400, refusal);
        self.expected.push(refusal.1);
    }

    #[track_caller]
    fn sent(&mut self, case: &str, answer: &Answer, status: u16, (error, reason): Refusal) {
        let found = (answer.status, answer.body["error"].as_str(), answer.body["reason"].as_str());
        assert_eq!(found, (status, Some(error), Some(reason)), "{case}: {}", answer.body);
        assert_eq!(answer.body.get("access_token"), None, "{case}");
        assert!(answer.headers.contains("cache-control: no-store"), "{case}: {}", answer.headers);
        // Nothing that was sent comes back.
        let said = format!("{}{}", answer.headers, answer.body);
        assert!(!said.contains("set-cookie") && !said.contains("eyJ"), "{case}: {said}");
        self.cases += 1;
    }

    /// Nothing was asked about anybody's rights; what was refused to the agent is on record, and no more.
    #[track_caller]
    fn end(self, what: &str) {
        let asked = questions("subjectaccessreviews");
        assert_eq!(asked.len(), self.reviews, "{what}: rights were asked about: {:?}", asked.last());
        self.ends_on_record(what);
    }

    #[track_caller]
    fn ends_on_record(self, what: &str) {
        let of_agent = || -> Vec<Value> {
            let all = record(self.broker).into_iter().skip(self.recorded);
            all.filter(|entry| entry["agent"]["ns"] == *self.scene.ns.0).collect()
        };
        let entries = eventually("what was refused is on record", || {
            Some(of_agent()).filter(|found| found.len() >= self.expected.len())
        });
        let reasons: Vec<_> =
            entries.iter().map(|entry| entry["reason"].as_str().unwrap_or_default()).collect();
        assert_eq!(reasons, self.expected, "{what}");
        for entry in &entries {
            assert_eq!(
                (&entry["decision"], &entry["kind"]),
                (&json!("deny"), &json!("token.exchange")),
                "{entry}"
            );
        }
        figure(&format!("corpus: {what}: {} cases refused, {} of them on record", self.cases, entries.len()));
    }
}
