//! The broker's endpoints in memory, as they are served: an API server that knows one agent's token and says of rights what it
//! is told to, an issuer whose keys are known, and a world that can change at any moment.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{Response, header::CONTENT_TYPE, request::Builder},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use deputy::{
    audit::{LogId, Noise, PseudonymKey},
    broker::{self, Broker, Issuers, Keys, PresentedTokens, Questions},
    index::{
        Index, Observed, ReservedAudiences, Snapshot,
        freshness::{Prover, Wholeness},
    },
    metrics::{BrokerMetrics, IssuerMetrics, Metrics, Role},
    store::{self, Wal},
    token::{Algorithm, KeySet, Life, Signer, SigningKey},
    verify::{self, Bounds, Verifier},
};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Client;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tower::ServiceExt as _;

pub(crate) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
pub(crate) const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
pub(crate) const FORM: &str = "application/x-www-form-urlencoded";
pub(crate) const NOW: i64 = 1_795_506_000;
pub(crate) const OWN: &str = "https://deputy.example.com";
const CLUSTER: &str = "https://cluster.example.com";
pub(crate) const IDP: &str = "https://idp.example.com";
pub(crate) const RESOURCE: &str = "https://papers.example.com/mcp";
pub(crate) const ACCOUNT: &str = "system:serviceaccount:ns:agent.a";

pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

/// What is said of a right.
#[derive(Clone)]
pub(crate) enum Say {
    Status(u16, String),
    Nothing,
}

pub(crate) fn allowed(allowed: bool) -> Say {
    Say::Status(201, review(json!({"allowed": allowed})))
}

pub(crate) fn review(status: Value) -> String {
    json!({"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {}, "spec": {}, "status": status})
        .to_string()
}

/// What happens when a right is asked about: the verb of the question decides.
type Rule = Box<dyn FnMut(&str) -> Say + Send>;

/// An API server that knows the agent's token, and says of rights what it is told to.
#[derive(Clone)]
struct Api(Arc<Mutex<Rule>>);

async fn serve(State(Api(rule)): State<Api>, request: Request) -> Response<Body> {
    let is_token = request.uri().path().ends_with("/tokenreviews");
    let body = to_bytes(request.into_body(), usize::MAX).await.unwrap();
    let asked: Value = serde_json::from_slice(&body).unwrap();
    let say = if is_token {
        let extra = json!({"authentication.kubernetes.io/pod-name": ["p"], "authentication.kubernetes.io/pod-uid": ["uid-p"]});
        let status = json!({"authenticated": true, "audiences": [OWN],
            "user": {"username": ACCOUNT, "uid": "uid-account", "extra": extra}});
        Say::Status(201, json!({"metadata": {}, "spec": {}, "status": status}).to_string())
    } else {
        let verb = asked["spec"]["resourceAttributes"]["verb"].as_str().unwrap().to_owned();
        rule.lock().unwrap()(&verb)
    };
    match say {
        Say::Status(status, body) => Response::builder()
            .status(status)
            .header("location", "http://169.254.169.254/")
            .header("content-type", "application/json")
            .body(body.into())
            .unwrap(),
        Say::Nothing => {
            sleep(Duration::from_secs(600)).await;
            Response::default()
        }
    }
}

fn observed<K: DeserializeOwned>(object: Value) -> Observed<K> {
    Observed::Object(Box::new(serde_json::from_value(object).unwrap()))
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "deputy.dev/v1alpha1", "kind": kind, "spec": spec,
        "metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}"), "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z"}})
}

/// The objects that a token rests on.
pub(crate) struct World {
    pub(crate) identity: Value,
    pub(crate) account_uid: &'static str,
    pub(crate) issuer: Value,
    pub(crate) resource: Value,
    pub(crate) policy: Value,
    pub(crate) pod_ends: Option<&'static str>,
    pub(crate) suspended: bool,
}

impl World {
    pub(crate) fn new(keys: &Signer) -> Self {
        let scopes = json!(["read", "write"]);
        let jwks = json!({"keys": [keys.published().jwk]}).to_string();
        Self {
            identity: object(
                "AgentIdentity",
                "a",
                json!({"owner": "o@example.com",
                "grants": [{"protectedResourceName": "papers", "scopes": scopes}]}),
            ),
            account_uid: "uid-account",
            issuer: object(
                "TrustedIssuer",
                "corp",
                json!({"issuer": {"url": IDP, "audiences": ["deputy"], "jwks": jwks},
                "tokens": [{"type": "AccessToken", "headerTypes": ["at+jwt"], "scopeCeiling": "None"}],
                "claimMappings": {"username": {"claim": "sub", "prefix": "corp:"}}}),
            ),
            resource: object(
                "ProtectedResource",
                "papers",
                json!({"identifier": RESOURCE, "owner": "p@example.com",
                "scopes": [{"name": "read"}, {"name": "write"}], "userAuthorization": {"type": "Kubernetes"},
                "allowedAgents": [{"name": "x", "namespaces": {"names": ["ns"]}, "modes": ["OnBehalfOfUser"], "scopes": scopes}]}),
            ),
            policy: object(
                "DelegationPolicy",
                "p",
                json!({"agents": {"names": ["a"]}, "mode": "OnBehalfOfUser",
                "subjects": [{"trustedIssuerName": "corp", "users": ["corp:alice"]}],
                "resources": [{"protectedResourceName": "papers", "scopes": scopes}], "token": {"maxLifetimeSeconds": 300}}),
            ),
            pod_ends: None,
            suspended: false,
        }
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        let mut index = Index::new(ReservedAudiences::default());
        index.apply_identity(observed(self.identity.clone()));
        let owner = json!([{"apiVersion": "deputy.dev/v1alpha1", "kind": "AgentIdentity", "name": "a", "uid": "uid-a",
            "controller": true}]);
        let account = json!({"metadata": {"name": "agent.a", "namespace": "ns", "uid": self.account_uid, "ownerReferences": owner}});
        index.apply_account(&serde_json::from_value(account).unwrap());
        let pod = json!({"metadata": {"name": "p", "namespace": "ns", "uid": "uid-p", "labels": {"deputy.dev/agent": "a"},
            "deletionTimestamp": self.pod_ends}});
        index.apply_pod(&serde_json::from_value(pod).unwrap());
        index.apply_issuer(&observed(self.issuer.clone()));
        index.apply_resource(&observed(self.resource.clone()));
        index.apply_policy(&observed(self.policy.clone()));
        if self.suspended {
            let suspension = json!({"agentName": "a", "reason": "r"});
            index.apply_suspension(observed(object("AgentSuspension", "s", suspension)));
        }
        index.snapshot()
    }
}

/// What alice's access token says.
pub(crate) fn alice() -> Value {
    json!({"iss": IDP, "aud": "deputy", "sub": "alice", "iat": NOW, "exp": NOW + 600})
}

/// The agent's own token.
pub(crate) fn actor() -> String {
    let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!(
        "{}.{}.x",
        part(json!({"alg": "ES256"})),
        part(json!({"iss": CLUSTER, "aud": [OWN], "exp": NOW + 600}))
    )
}

/// The endpoint, and what stands behind it.
pub(crate) struct Stage {
    router: Router,
    rule: Api,
    pub(crate) idp: Signer,
    pub(crate) snapshots: watch::Sender<Arc<Snapshot>>,
    folder: TempDir,
}

fn pkcs8() -> Vec<u8> {
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    key.as_ref().to_vec()
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::of(|_| {})
    }

    /// One whose world is another from the start.
    pub(crate) fn of(edit: impl FnOnce(&mut World)) -> Self {
        let idp = Signer::new(Algorithm::Es256, &pkcs8()).unwrap();
        let mut world = World::new(&idp);
        edit(&mut world);
        let (snapshots, seen) = watch::channel(world.snapshot());
        let whole = Wholeness { whole: true, breaks: 0 };
        let mut prover = Prover::new(Duration::from_secs(3600));
        prover.send(0, Instant::now().into_std(), whole);
        assert!(prover.receive(&0, whole));
        let (_, fresh) = watch::channel(prover.freshness());
        let made = now().checked_sub(SignedDuration::from_hours(24)).unwrap();
        let set = KeySet::default().with(SigningKey::new(Algorithm::Es256, &pkcs8(), made).unwrap());
        let (_, keyed) = watch::channel(Some(Arc::new(Keys::new(set, Life::default()).unwrap())));
        let (_, named) = watch::channel(Some(Arc::new(PseudonymKey::new("1".to_owned(), &[7; 32]).unwrap())));
        let folder = TempDir::new().unwrap();
        let options = store::Options {
            log: LogId([1; 8]),
            reserve: 0,
            retry: store::Options::RETRY,
            now,
            metrics: None,
        };
        let rule = Api(Arc::new(Mutex::new(Box::new(|_| allowed(true)))));
        let client = Client::new(Router::new().fallback(serve).with_state(rule.clone()), "default");
        let mut metrics = Metrics::new(Role::Broker);
        let issuers = verify::Issuers::new(Bounds::default(), IssuerMetrics::register(&mut metrics));
        let counted = BrokerMetrics::register(&mut metrics);
        let broker = Broker {
            issuers: Issuers { broker: OWN.to_owned(), cluster: CLUSTER.to_owned() },
            snapshots: seen,
            freshness: fresh,
            questions: Questions::new(&client, OWN, &counted),
            presented: PresentedTokens::new(&counted),
            subjects: Verifier::new(issuers, counted.lookups("subject")),
            pseudonyms: named,
            keys: keyed,
            record: Wal::open(folder.path(), &options).unwrap().0,
            noise: Mutex::new(Noise::default()),
            metrics: counted,
            clock: now,
            random: || "random".to_owned(),
        };
        let router = broker::router(Arc::new(broker));
        Self { router, rule, idp, snapshots, folder }
    }

    pub(crate) fn says(&self, rule: impl FnMut(&str) -> Say + Send + 'static) {
        *self.rule.0.lock().unwrap() = Box::new(rule);
    }

    /// Alice's access token.
    pub(crate) fn alice(&self) -> String {
        self.idp.sign("at+jwt", alice().to_string().as_bytes()).unwrap()
    }

    /// An exchange for the user of a token, as it should be.
    pub(crate) fn form(subject: &str, scope: &str) -> Vec<(&'static str, String)> {
        [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token", subject),
            ("subject_token_type", ACCESS_TOKEN),
            ("actor_token", &actor()),
            ("actor_token_type", JWT),
            ("resource", RESOURCE),
            ("scope", scope),
        ]
        .map(|(name, value)| (name, value.to_owned()))
        .into()
    }

    /// An exchange for alice: status, and what was said.
    pub(crate) async fn exchange(&self, scope: &str) -> (u16, Value) {
        self.post(&Self::form(&self.alice(), scope)).await
    }

    pub(crate) async fn post(&self, form: &[(&'static str, String)]) -> (u16, Value) {
        let form: Vec<_> =
            form.iter().map(|(name, value)| format!("{name}={}", value.replace(' ', "+"))).collect();
        self.send(Request::post("/token").header(CONTENT_TYPE, FORM), &form.join("&")).await
    }

    pub(crate) async fn send(&self, request: Builder, body: &str) -> (u16, Value) {
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    /// Kind, decision and reason of what is on record, once there are so many.
    pub(crate) async fn recorded(&self, entries: usize) -> Vec<(String, String, String)> {
        loop {
            let found: Vec<Value> = store::entries(self.folder.path())
                .unwrap()
                .map(|entry| serde_json::from_slice(&entry.unwrap().1).unwrap())
                .filter(|entry: &Value| entry["kind"] != "log.opened")
                .collect();
            if found.len() >= entries {
                let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
                let told =
                    |entry: &Value| (text(entry, "kind"), text(entry, "decision"), text(entry, "reason"));
                return found.iter().map(told).collect();
            }
            // What nobody waits for is written by a thread of its own.
            tokio::task::yield_now().await;
        }
    }
}
