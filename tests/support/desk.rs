//! A broker in this process, asked over its router: its cluster is an index, and the API server answers reviews as a test
//! has it.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use deputy::{
    audit::{LogId, Noise, PseudonymKey},
    broker::{Broker, Issuers, Keys, PresentedTokens, Questions, router},
    index::{
        Index, Observed, ReservedAudiences, Snapshot,
        freshness::{Freshness, Prover, Wholeness},
    },
    metrics::{BrokerMetrics, IssuerMetrics, Metrics, Role},
    store::{self, Wal},
    token::{Algorithm, KeySet, Life, Signer, SigningKey},
    verify::{self, Bounds, Verifier},
};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;
use tokio::sync::watch;
use tower::ServiceExt as _;

pub(super) const BROKER: &str = "https://deputy.example.com";
pub(super) const CLUSTER: &str = "https://kubernetes.default.svc";
pub(super) const RESOURCE: &str = "https://papers.example.com/mcp";
pub(super) const IDP: &str = "https://idp.example.com";
pub(super) const ACCOUNT: &str = "system:serviceaccount:ns:agent.a";
pub(super) const NOW: i64 = 1_795_506_000;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

/// Names of which no two are alike.
fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("id-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(super) fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "deputy.dev/v1alpha1", "kind": kind, "spec": spec,
           "metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}"), "generation": 1,
                        "creationTimestamp": "2026-01-01T00:00:00Z"}})
}

/// The objects of a cluster, as they are written. Alice and readers may lend agent `a` two of three scopes, and one of two
/// tools.
#[derive(Clone)]
pub(super) struct Objects {
    pub(super) identity: Value,
    pub(super) issuer: Value,
    pub(super) resource: Value,
    pub(super) policies: Vec<Value>,
    pub(super) pod: Option<Value>,
    pub(super) account: Value,
    pub(super) suspended: bool,
}

/// A key for ES256, PKCS #8.
pub(super) fn key() -> Vec<u8> {
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
    key.unwrap().as_ref().to_vec()
}

impl Objects {
    fn new(idp: &Signer) -> Self {
        let grants = json!([{"protectedResourceName": "papers", "scopes": ["read", "search"]}]);
        let keys = json!({"keys": [idp.published().jwk]}).to_string();
        let subjects =
            json!([{"trustedIssuerName": "corp", "users": ["corp:alice"], "groups": ["corp:readers"]}]);
        let lent = json!([{"protectedResourceName": "papers", "scopes": ["read", "search", "write"],
                           "tools": ["find", "erase"]}]);
        Self {
            identity: object("AgentIdentity", "a", &json!({"owner": "o@example.com", "grants": grants})),
            issuer: object(
                "TrustedIssuer",
                "corp",
                &json!({"issuer": {"url": IDP, "audiences": ["deputy"], "jwks": keys},
                        "tokens": [{"type": "AccessToken", "headerTypes": ["at+jwt"], "scopeCeiling": "None"}],
                        "claimMappings": {"username": {"claim": "sub", "prefix": "corp:"},
                                          "groups": {"claim": "groups", "prefix": "corp:"}},
                        "maxTokenAgeSeconds": 900}),
            ),
            resource: object(
                "ProtectedResource",
                "papers",
                &json!({"identifier": RESOURCE, "owner": "p@example.com",
                        "scopes": [{"name": "read"}, {"name": "search"}, {"name": "write"}],
                        "tools": [{"name": "find", "scopes": ["search"]}, {"name": "get", "scopes": ["read"]},
                                  {"name": "erase", "scopes": ["write"]}],
                        "allowedAgents": [{"name": "x", "namespaces": {"names": ["ns"]},
                                           "modes": ["OnBehalfOfUser"], "scopes": ["read", "search"]}],
                        "callers": [{"serviceAccount": {"namespace": "papers", "name": "api"}, "may": ["Decide"]}],
                        "maxTokenLifetimeSeconds": 600, "userAuthorization": {"type": "Kubernetes"}}),
            ),
            policies: vec![object(
                "DelegationPolicy",
                "p",
                &json!({"agents": {"names": ["a"]}, "mode": "OnBehalfOfUser", "subjects": subjects, "resources": lent,
                        "token": {"maxLifetimeSeconds": 300}}),
            )],
            pod: Some(json!({"metadata": {"name": "pod", "namespace": "ns", "uid": "uid-pod",
                                          "labels": {"deputy.dev/agent": "a"}}})),
            account: json!({"metadata": {"name": "agent.a", "namespace": "ns", "uid": "uid-account",
                "ownerReferences": [{"apiVersion": "deputy.dev/v1alpha1", "kind": "AgentIdentity", "name": "a",
                                     "uid": "uid-a", "controller": true}]}}),
            suspended: false,
        }
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        fn observed<K: DeserializeOwned>(object: &Value) -> Observed<K> {
            Observed::Object(Box::new(serde_json::from_value(object.clone()).unwrap()))
        }
        let mut index = Index::new(ReservedAudiences::default());
        index.apply_identity(observed(&self.identity));
        index.apply_account(&serde_json::from_value(self.account.clone()).unwrap());
        index.apply_issuer(&observed(&self.issuer));
        index.apply_resource(&observed(&self.resource));
        for policy in &self.policies {
            index.apply_policy(&observed(policy));
        }
        if let Some(pod) = &self.pod {
            index.apply_pod(&serde_json::from_value(pod.clone()).unwrap());
        }
        if self.suspended {
            index.apply_suspension(observed(&object("AgentSuspension", "s", &json!({"reason": "r"}))));
        }
        index.snapshot()
    }
}

/// What the API server answers to a SubjectAccessReview; made while the question waits.
type Review = Box<dyn Fn(&Value) -> (u16, Value) + Send>;

/// What is asked of the API server, and what it says.
#[derive(Clone)]
struct Api {
    review: Arc<Mutex<Review>>,
    asked: Arc<Mutex<Vec<Value>>>,
}

async fn reviewed(State(api): State<Api>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let mut body: Value =
        serde_json::from_slice(&to_bytes(request.into_body(), usize::MAX).await.unwrap()).unwrap();
    let (status, answer) = if path.ends_with("tokenreviews") {
        // Every token is good that says whom it is of.
        let payload = body["spec"]["token"].as_str().unwrap().split('.').nth(1).unwrap();
        let payload: Value =
            serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
        let user = json!({"username": payload["sub"], "uid": "uid-account", "extra": {
            "authentication.kubernetes.io/pod-name": ["pod"], "authentication.kubernetes.io/pod-uid": ["uid-pod"]}});
        body["status"] = json!({"authenticated": true, "audiences": [BROKER], "user": user});
        (201, body)
    } else {
        api.asked.lock().unwrap().push(body["spec"].clone());
        let (status, answer) = api.review.lock().unwrap()(&body["spec"]);
        body["status"] = answer;
        (status, body)
    };
    (StatusCode::from_u16(status).unwrap(), Json(answer)).into_response()
}

/// An answer: status, headers and JSON.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: http::HeaderMap,
    pub(super) body: Value,
}

impl Answer {
    /// The word for why not.
    pub(super) fn reason(&self) -> Option<&str> {
        self.body["reason"].as_str().or_else(|| self.body["context"]["reason"].as_str())
    }
}

/// The broker, and all it depends on.
pub(super) struct Desk {
    pub(super) objects: Objects,
    pub(super) broker: Arc<Broker>,
    pub(super) idp: Signer,
    signer: Signer,
    pub(super) router: Router,
    snapshots: watch::Sender<Arc<Snapshot>>,
    freshness: watch::Sender<Freshness>,
    keys: watch::Sender<Option<Arc<Keys>>>,
    api: Api,
    pub(super) record: TempDir,
}

/// Keys, and what signs with them.
fn keys() -> (Keys, Signer) {
    let key = SigningKey::new(Algorithm::Es256, &key(), Timestamp::UNIX_EPOCH).unwrap();
    let signer = key.signer().unwrap();
    (Keys::new(KeySet::default().with(key), Life::default()).unwrap(), signer)
}

fn fresh() -> Freshness {
    let whole = Wholeness { whole: true, breaks: 0 };
    let mut prover = Prover::new(Duration::from_secs(3600));
    prover.send(0, tokio::time::Instant::now().into_std(), whole);
    assert!(prover.receive(&0, whole));
    prover.freshness()
}

/// A token as the API server signs them; its signature is the API server's to judge.
pub(super) fn projected(sub: &str) -> String {
    projected_until(sub, NOW + 600)
}

/// The same, which ends then.
pub(super) fn projected_until(sub: &str, ends: i64) -> String {
    let claims = json!({"iss": CLUSTER, "aud": [BROKER], "sub": sub, "exp": ends});
    format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()))
}

impl Desk {
    pub(super) fn new() -> Self {
        Self::with(&key(), TempDir::new().unwrap(), now, unique)
    }

    /// One that believes the tokens which the key `idp` signs, keeps its record there, and has these for time and randomness.
    pub(super) fn with(
        idp: &[u8],
        record: TempDir,
        clock: fn() -> Timestamp,
        random: fn() -> String,
    ) -> Self {
        let idp = Signer::new(Algorithm::Es256, idp).unwrap();
        let objects = Objects::new(&idp);
        let (snapshots, seen) = watch::channel(objects.snapshot());
        let (freshness, proved) = watch::channel(fresh());
        let (own, signer) = keys();
        let (keys, published) = watch::channel(Some(Arc::new(own)));
        let pseudonyms = watch::channel(Some(Arc::new(PseudonymKey::new("1".into(), &[7; 32]).unwrap()))).1;
        let yes: Review = Box::new(|_| (201, json!({"allowed": true})));
        let api = Api { review: Arc::new(Mutex::new(yes)), asked: Arc::default() };
        let client = Client::new(Router::new().fallback(reviewed).with_state(api.clone()), "default");
        let options = store::Options {
            log: LogId([1; 8]),
            reserve: 4096,
            retry: Duration::from_secs(1),
            now: clock,
            metrics: None,
        };
        let mut metrics = Metrics::new(Role::Broker);
        let counted = BrokerMetrics::register(&mut metrics);
        let broker = Arc::new(Broker {
            issuers: Issuers { broker: BROKER.into(), cluster: CLUSTER.into() },
            snapshots: seen,
            freshness: proved,
            questions: Questions::new(&client, BROKER, &counted),
            presented: PresentedTokens::new(&counted),
            subjects: Verifier::new(
                verify::Issuers::new(Bounds::default(), IssuerMetrics::register(&mut metrics)),
                counted.lookups("subject"),
            ),
            pseudonyms,
            keys: published,
            record: Wal::open(record.path(), &options).unwrap().0,
            noise: Mutex::new(Noise::default()),
            metrics: counted,
            clock,
            random,
        });
        let router = router(Arc::clone(&broker));
        Self { objects, broker, idp, signer, router, snapshots, freshness, keys, api, record }
    }

    /// The cluster becomes what `edit` makes of it.
    pub(super) fn becomes(&mut self, edit: impl FnOnce(&mut Objects)) {
        edit(&mut self.objects);
        self.snapshots.send_replace(self.objects.snapshot());
    }

    /// Nothing is known of the cluster any more.
    pub(super) fn goes_stale(&self) {
        self.freshness.send_replace(Freshness::unproved(Duration::from_secs(10)));
    }

    /// Other keys sign from now on, and those from before are gone.
    pub(super) fn forgets_its_keys(&self) {
        self.keys.send_replace(Some(Arc::new(keys().0)));
    }

    /// From now on the API server answers so to what it is asked of users.
    pub(super) fn reviews(&self, review: impl Fn(&Value) -> (u16, Value) + Send + 'static) {
        *self.api.review.lock().unwrap() = Box::new(review);
    }

    /// While the API server is asked of the user, the cluster becomes what `edit` makes of it; the user may all the same.
    pub(super) fn becomes_meanwhile(&self, edit: impl Fn(&mut Objects)) {
        let mut objects = self.objects.clone();
        edit(&mut objects);
        let (snapshots, later) = (self.snapshots.clone(), objects.snapshot());
        self.reviews(move |_| {
            snapshots.send_replace(Arc::clone(&later));
            (201, json!({"allowed": true}))
        });
    }

    /// How often the API server was asked of users.
    pub(super) fn asked(&self) -> Vec<Value> {
        self.api.asked.lock().unwrap().clone()
    }

    /// Alice's access token, with these claims besides.
    pub(super) fn alice(&self, besides: &Value) -> String {
        let mut claims = json!({"iss": IDP, "aud": "deputy", "sub": "alice", "groups": ["readers"], "iat": NOW - 60,
                                "exp": NOW + 600, "jti": unique()});
        claims.as_object_mut().unwrap().extend(besides.as_object().unwrap().clone());
        self.idp.sign("at+jwt", claims.to_string().as_bytes()).unwrap()
    }

    async fn ask(&self, request: Request) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let body = serde_json::from_slice(&body).unwrap_or_else(|_| panic!("no JSON: {body:?}"));
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// What comes of an exchange for the user of `subject`.
    pub(super) async fn exchange(&self, subject: &str, scope: &str) -> Answer {
        let (actor, jwt) = (projected(ACCOUNT), "urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt");
        let form = [
            ("grant_type", "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange"),
            ("subject_token", subject),
            ("subject_token_type", "urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token"),
            ("actor_token", &actor),
            ("actor_token_type", jwt),
            ("resource", "https%3A%2F%2Fpapers.example.com%2Fmcp"),
            ("scope", &scope.replace(' ', "+")),
        ];
        let form: Vec<_> = form.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = Request::builder()
            .method(Method::POST)
            .uri("/token")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form.join("&")));
        self.ask(request.unwrap()).await
    }

    /// A token of alice's for these scopes.
    pub(super) async fn token(&self, scope: &str) -> String {
        let given = self.exchange(&self.alice(&json!({})), scope).await;
        given.body["access_token"].as_str().unwrap_or_else(|| panic!("{}", given.body)).to_owned()
    }

    /// A token of the broker's for `search`, as it might have been issued, but for what `edit` does to its claims. Nobody was
    /// asked anything for it.
    pub(super) fn issued(&self, edit: impl FnOnce(&mut Value)) -> String {
        let version = |name: &str| json!({"uid": format!("uid-{name}"), "generation": 1});
        let mut claims = json!({"iss": BROKER, "aud": RESOURCE, "sub": "corp:alice", "sub_profile": "user",
            "act": {"iss": CLUSTER, "sub": ACCOUNT, "sub_profile": "ai_agent"}, "client_id": ACCOUNT, "scope": "search",
            "iat": NOW, "exp": NOW + 300, "jti": unique(), "txn": "t", "groups": ["corp:readers"], "deputy.dev": {
                "agent": {"namespace": "ns", "name": "a", "uid": "uid-a"}, "serviceaccount_uid": "uid-account",
                "pod": {"name": "pod", "uid": "uid-pod"}, "policy": version("p"), "resource": version("papers"),
                "issuer": version("corp"), "lineage": ["x", "y"], "rights": {"mode": "kubernetes", "as_of": NOW}}});
        edit(&mut claims);
        self.signer.sign("at+jwt", claims.to_string().as_bytes()).unwrap()
    }

    /// What the resource's own account is told.
    pub(super) async fn evaluate(&self, question: &Value) -> Answer {
        self.evaluate_as("system:serviceaccount:papers:api", question.to_string()).await
    }

    pub(super) async fn evaluate_as(&self, caller: &str, body: String) -> Answer {
        self.evaluate_with(&format!("Bearer {}", projected(caller)), "application/json", body).await
    }

    pub(super) async fn evaluate_with(&self, credential: &str, media_type: &str, body: String) -> Answer {
        let request = Request::builder()
            .method(Method::POST)
            .uri("/access/v1/evaluation")
            .header(header::CONTENT_TYPE, media_type)
            .header(header::AUTHORIZATION, credential)
            .header("x-request-id", "r-1")
            .body(Body::from(body));
        self.ask(request.unwrap()).await
    }

    /// All that is on record, once the last entry that nobody waits for is durable too.
    pub(super) async fn record(&self) -> Vec<Value> {
        // Entries keep their order: once this one is durable, so are those before.
        self.broker.record.append(b"{}").await.unwrap();
        let entries = store::entries(self.record.path()).unwrap();
        let entries = entries.map(|entry| serde_json::from_slice::<Value>(&entry.unwrap().1).unwrap());
        entries.filter(|entry| entry["kind"] != "log.opened" && *entry != json!({})).collect()
    }
}
