//! The token endpoint as an agent meets it, over TLS, against a broker that runs as it is shipped.

use super::in_node;
use crate::support::{IMAGE, Namespace, SYSTEM, apply, eventually, figure, get, kubectl, replicas};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use deputy::token::{Algorithm, Signer};
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::time::Instant;

pub(super) const ISSUER: &str = "https://deputy-broker.deputy-system.svc";
pub(super) const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
pub(super) const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// An answer: status, headers and JSON.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: String,
    pub(super) body: Value,
}

impl Answer {
    #[track_caller]
    pub(super) fn is(&self, status: u16, error: &str, reason: &str) {
        let found = (self.status, self.body["error"].as_str(), self.body["reason"].as_str());
        assert_eq!(found, (status, Some(error), Some(reason)), "{}", self.body);
    }
}

/// One replica of the broker.
pub(super) struct Replica {
    pub(super) name: String,
    pub(super) ip: String,
}

impl Replica {
    pub(super) fn first() -> Self {
        eventually("a replica of the broker is ready", || {
            let pod = replicas("broker")
                .into_iter()
                .find(|pod| pod["status"]["containerStatuses"][0]["ready"] == true)?;
            let text = |at: &str| pod.pointer(at).and_then(Value::as_str).map(str::to_owned);
            Some(Self { name: text("/metadata/name")?, ip: text("/status/podIP")? })
        })
    }

    /// The one of this name, as it is now.
    pub(super) fn called(name: &str) -> Self {
        let pod = get(&["-n", SYSTEM, "pod", name]);
        Self { name: name.to_owned(), ip: pod["status"]["podIP"].as_str().unwrap().to_owned() }
    }

    pub(super) fn ask(&self, path: &str, arguments: &[&str]) -> Answer {
        self.send(path, arguments, "")
    }

    /// A request whose body, if it has one, is `body`.
    pub(super) fn send(&self, path: &str, arguments: &[&str], body: &str) -> Answer {
        let url = format!("https://{}:8443{path}", self.ip);
        // The answer alone, without "100 Continue".
        let curl = ["curl", "-sk", "--max-time", "10", "-i", "-H", "Expect:"];
        let said = in_node(&[&curl[..], arguments, &[&url]].concat(), body).accepted();
        let (headers, body) = said.split_once("\r\n\r\n").unwrap();
        let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
        let body = serde_json::from_str(body).unwrap_or_else(|_| panic!("no JSON: {body}"));
        Answer { status, headers: headers.to_lowercase(), body }
    }

    /// An exchange with these parameters.
    pub(super) fn exchange(&self, form: &[(&str, &str)]) -> Answer {
        self.post(&encoded(form))
    }

    /// The same, as it is written on the wire.
    pub(super) fn post(&self, body: &str) -> Answer {
        self.send("/token", &["--data-binary", "@-"], body)
    }
}

/// A form, as it is written on the wire.
pub(super) fn encoded(form: &[(&str, &str)]) -> String {
    let escaped = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    let written =
        |(name, value): &(&str, &str)| format!("{name}={}", value.bytes().map(escaped).collect::<String>());
    form.iter().map(written).collect::<Vec<_>>().join("&")
}

/// A namespace with the agent `a`, which may have `read` of a resource for itself, and the agent's token.
pub(super) struct Scene {
    pub(super) ns: Namespace,
    pub(super) resource: String,
    pub(super) token: String,
}

impl Scene {
    pub(super) fn new() -> Self {
        Self::running(IMAGE)
    }

    /// One whose pod has this image.
    pub(super) fn running(image: &str) -> Self {
        let ns = Namespace::new();
        let resource = format!("https://{}.example.com/mcp", ns.0);
        let object = json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "ProtectedResource", "metadata": {"name": ns.0},
            "spec": {"identifier": resource, "owner": "o@example.com", "maxTokenLifetimeSeconds": 600,
                "scopes": [{"name": "read"}, {"name": "search"}, {"name": "write"}], "userAuthorization": {"type": "Kubernetes"},
                "allowedAgents": [{"name": "here", "namespaces": {"names": [ns.0]}, "modes": ["OnOwnBehalf"],
                    "scopes": ["read", "search"]}]}});
        apply(&object.to_string()).accepted();
        let mut scene = Self { ns, resource, token: String::new() };
        let grants = format!(", grants: [{{protectedResourceName: {}, scopes: [read, write]}}]", scene.ns.0);
        scene.ns.identity("a", &grants).accepted();
        scene.lend(&["read", "search"]);
        apply(&scene.ns.pod("p", "a", "").replace(IMAGE, image)).accepted();
        scene.ns.runs("p");
        let token = scene.ns.inside("p", &["cat", "/var/run/secrets/deputy.dev/token"]);
        scene.token = token.trim().to_owned();
        scene
    }

    fn lend(&self, scopes: &[&str]) {
        let policy = json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "DelegationPolicy",
            "metadata": {"name": "own", "namespace": self.ns.0}, "spec": {"agents": {"names": ["a"]}, "mode": "OnOwnBehalf",
                "resources": [{"protectedResourceName": self.ns.0, "scopes": scopes}], "token": {"maxLifetimeSeconds": 300}}});
        apply(&policy.to_string()).accepted();
    }

    pub(super) fn form<'a>(&'a self, scope: &'a str) -> Vec<(&'a str, &'a str)> {
        vec![
            ("grant_type", GRANT),
            ("subject_token", &self.token),
            ("subject_token_type", JWT),
            ("resource", &self.resource),
            ("scope", scope),
        ]
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        kubectl(&["delete", "protectedresource", &self.ns.0, "--ignore-not-found"]);
    }
}

/// The intersection of what it is granted, what the owner consents to and what a policy lends; verified by a library that is
/// not ours with the keys that are published.
#[test]
fn an_agent_gets_a_narrower_token_for_itself() {
    let (scene, broker) = (Scene::new(), Replica::first());
    let given = broker.exchange(&scene.form("read search write"));
    assert_eq!(given.status, 200, "{}", given.body);
    assert!(given.headers.contains("cache-control: no-store"), "{}", given.headers);
    assert_eq!((&given.body["scope"], &given.body["token_type"]), (&json!("read"), &json!("Bearer")));
    let denied = json!([{"scope": "search", "half": "agent"}, {"scope": "write", "half": "agent"}]);
    assert_eq!((&given.body["denied"], &given.body["expires_in"]), (&denied, &json!(300)));

    let token = given.body["access_token"].as_str().unwrap();
    let keys: JwkSet = serde_json::from_value(broker.ask("/jwks", &[]).body).unwrap();
    let header = decode_header(token).unwrap();
    assert_eq!(header.typ.as_deref(), Some("at+jwt"));
    let key = DecodingKey::from_jwk(keys.find(&header.kid.unwrap()).unwrap()).unwrap();
    let mut validation = Validation::new(header.alg);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[&scene.resource]);
    validation.set_required_spec_claims(&["iss", "aud", "exp", "sub"]);
    let claims = decode::<Value>(token, &key, &validation).unwrap().claims;
    let account = format!("system:serviceaccount:{}:agent.a", scene.ns.0);
    assert_eq!((&claims["sub"], &claims["client_id"]), (&json!(account), &json!(account)));
    assert_eq!((&claims["sub_profile"], claims.get("act")), (&json!("ai_agent"), None));
    let pod = get(&["-n", &scene.ns.0, "pod", "p"]);
    assert_eq!(claims.pointer("/deputy.dev/pod/uid"), Some(&pod["metadata"]["uid"]));
    validation.set_audience(&["https://other.example.com"]);
    assert!(decode::<Value>(token, &key, &validation).is_err(), "it is for one resource");

    let document = broker.ask("/.well-known/oauth-authorization-server", &[]).body;
    assert_eq!(
        (&document["issuer"], &document["token_endpoint"]),
        (&json!(ISSUER), &json!(format!("{ISSUER}/token")))
    );
    // Each permit has a place of its own on the record.
    let place = |answer: &Answer| {
        answer.body["audit"].as_str().unwrap().rsplit_once('#').unwrap().1.parse::<u64>().unwrap()
    };
    let next = broker.exchange(&scene.form("read"));
    assert!(place(&next) > place(&given), "{} {}", next.body, given.body);
}

/// What is withdrawn is effective at the next request, whoever withdraws it.
#[test]
fn what_is_withdrawn_is_refused_at_the_next_request() {
    let (scene, broker) = (Scene::new(), Replica::first());
    let ns = &scene.ns;
    ns.ages("p");
    let account = || ns.kubectl(&["get", "serviceaccount", "agent.a", "-o", "jsonpath={.metadata.uid}"]);
    let before = account().accepted();
    let given = || broker.exchange(&scene.form("read"));
    assert_eq!(given().status, 200);
    let becomes = |what: &str, status: u16, error: &str, reason: &str| {
        let since = Instant::now();
        let answer = eventually(what, || Some(given()).filter(|answer| answer.status == status));
        answer.is(status, error, reason);
        figure(&format!("exchange: {what} refused {:.2} s after it", since.elapsed().as_secs_f64()));
    };
    apply(&format!(
        "{{apiVersion: deputy.dev/v1alpha1, kind: AgentSuspension, metadata: {{name: s, namespace: {}}}, spec: {{agentName: a, \
         reason: r, pods: Retain}}}}",
        ns.0
    ))
    .accepted();
    becomes("a suspended agent", 400, "unauthorized_client", "agent_suspended");
    eventually("its account is replaced", || Some(account()).filter(|now| now.ok && now.text != before));
    ns.kubectl(&["delete", "agentsuspension", "s"]).accepted();
    // Switched on again, the agent has another account, and the token is of the one before.
    eventually("the old token is told from the new account's", || {
        (given().body["reason"] == "actor_account_replaced").then_some(())
    });

    let (scene, broker) = (Scene::new(), Replica::first());
    let given = || broker.exchange(&scene.form("read"));
    let becomes = |what: &str, error: &str, reason: &str| {
        let answer = eventually(what, || Some(given()).filter(|answer| answer.status == 400));
        answer.is(400, error, reason);
    };
    scene.lend(&["search"]);
    becomes("what is not lent any more", "invalid_scope", "delegation");
    scene.ns.kubectl(&["delete", "delegationpolicy", "own"]).accepted();
    eventually("no policy is left", || (given().body["reason"] == "no_delegation").then_some(()));
    scene.lend(&["read"]);
    eventually("it is lent again", || (given().status == 200).then_some(()));
    let consent = "{\"spec\": {\"allowedAgents\": []}}";
    kubectl(&["patch", "protectedresource", &scene.ns.0, "--type=merge", "-p", consent]).accepted();
    becomes("what its owner does not consent to", "invalid_target", "resource_unknown");
    scene.ns.kubectl(&["delete", "pod", "p", "--force", "--grace-period=0"]).accepted();
    eventually("the pod is gone", || (given().body["reason"] == "actor_pod_gone").then_some(()));
}

/// An identity provider whose keys the cluster was told; it signs with a library, and what is made of its tokens is real.
pub(super) struct Provider {
    signer: Signer,
    pub(super) url: String,
    ns: String,
}

impl Provider {
    fn new(ns: &str) -> Self {
        let key =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let signer = Signer::new(Algorithm::Es256, key.as_ref()).unwrap();
        let url = format!("https://idp.{ns}.example.com");
        let keys = json!({"keys": [signer.published().jwk]}).to_string();
        let issuer = json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "TrustedIssuer", "metadata": {"name": ns}, "spec": {
            "issuer": {"url": url, "audiences": ["deputy"], "jwks": keys},
            "tokens": [{"type": "AccessToken", "headerTypes": ["at+jwt"], "scopeCeiling": "None"}],
            "claimMappings": {"username": {"claim": "sub", "prefix": format!("{ns}:")},
                "groups": {"claim": "groups", "prefix": format!("{ns}:")}},
            "maxTokenAgeSeconds": 900}});
        apply(&issuer.to_string()).accepted();
        Self { signer, url, ns: ns.to_owned() }
    }

    /// An access token of somebody's, with these claims besides.
    pub(super) fn token(&self, who: &str, besides: Value) -> String {
        let now = Timestamp::now().as_second();
        let mut claims = json!({"iss": self.url, "aud": "deputy", "sub": who, "groups": ["readers"], "iat": now, "exp": now + 600});
        claims.as_object_mut().unwrap().extend(besides.as_object().unwrap().clone());
        self.signer.sign("at+jwt", claims.to_string().as_bytes()).unwrap()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        kubectl(&["delete", "trustedissuer", &self.ns, "--ignore-not-found"]);
        for kind in ["clusterrole", "clusterrolebinding"] {
            kubectl(&["delete", kind, &format!("{}-alice", self.ns), "--ignore-not-found"]);
        }
    }
}

/// Alice and carol may lend `read` and `write` of the scene's resource to its agent, and alice has the right to `read` herself.
pub(super) fn users_may_lend(ns: &str) -> Provider {
    let provider = Provider::new(ns);
    let consent = json!({"spec": {"allowedAgents": [{"name": "here", "namespaces": {"names": [ns]},
        "modes": ["OnBehalfOfUser"], "scopes": ["read", "search", "write"]}]}});
    kubectl(&["patch", "protectedresource", ns, "--type=merge", "-p", &consent.to_string()]).accepted();
    let policy = json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "DelegationPolicy", "metadata": {"name": "users", "namespace": ns},
        "spec": {"agents": {"names": ["a"]}, "mode": "OnBehalfOfUser",
            "subjects": [{"trustedIssuerName": ns, "users": [format!("{ns}:alice"), format!("{ns}:carol")]}],
            "resources": [{"protectedResourceName": ns, "scopes": ["read", "write"]}], "token": {"maxLifetimeSeconds": 300}}});
    apply(&policy.to_string()).accepted();
    let role = format!("{ns}-alice");
    let rights = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": role},
        "rules": [{"apiGroups": ["deputy.dev"], "resources": ["protectedresources/scopes"], "resourceNames": [ns], "verbs": ["read"]}]});
    apply(&rights.to_string()).accepted();
    kubectl(&[
        "create",
        "clusterrolebinding",
        &role,
        "--clusterrole",
        &role,
        "--user",
        &format!("{ns}:alice"),
    ])
    .accepted();
    provider
}

/// What the agent, the owner, the policy and the user's own rights have in common, and no more; the user's rights are those
/// that the API server knows now.
#[test]
fn an_agent_acts_for_a_user_within_the_users_rights_as_they_are_now() {
    let (scene, broker) = (Scene::new(), Replica::first());
    let ns = scene.ns.0.as_str();
    let provider = users_may_lend(ns);
    let role = format!("{ns}-alice");
    let exchange = |user: &str, scope: &str| {
        broker.exchange(&[
            ("grant_type", GRANT),
            ("subject_token", user),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("actor_token", &scene.token),
            ("actor_token_type", JWT),
            ("resource", &scene.resource),
            ("scope", scope),
        ])
    };
    let alice = provider.token("alice", json!({}));
    let given = eventually("alice may lend it", || {
        Some(exchange(&alice, "read write search")).filter(|answer| answer.status == 200)
    });
    assert_eq!(given.body["scope"], "read");
    let denied = json!([{"scope": "search", "half": "agent"}, {"scope": "write", "half": "user"}]);
    assert_eq!(given.body["denied"], denied);
    let payload = given.body["access_token"].as_str().unwrap().split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    let account = format!("system:serviceaccount:{ns}:agent.a");
    assert_eq!((&claims["sub"], &claims["act"]["sub"]), (&json!(format!("{ns}:alice")), &json!(account)));
    assert_eq!(
        (&claims["aud"], &claims["groups"]),
        (&json!(scene.resource), &json!([format!("{ns}:readers")]))
    );

    // Carol may lend, and has no right herself; bob has nobody's word that he may lend.
    exchange(&provider.token("carol", json!({})), "read").is(400, "invalid_scope", "user_half");
    exchange(&provider.token("bob", json!({})), "read").is(400, "actor_unauthorized", "no_delegation");
    // What is no user's token of today.
    let past = json!({"iat": 1_600_000_000, "exp": 1_600_000_600});
    exchange(&provider.token("alice", past), "read").is(400, "invalid_request", "subject_expired");
    exchange(&provider.token("alice", json!({"aud": "other"})), "read").is(
        400,
        "invalid_request",
        "subject_audience",
    );
    exchange(&provider.token("alice", json!({"act": {"sub": "x"}})), "read").is(
        400,
        "invalid_request",
        "nested_unsupported",
    );
    exchange(&format!("{alice}x"), "read").is(400, "invalid_request", "subject_signature");
    exchange(given.body["access_token"].as_str().unwrap(), "read").is(
        400,
        "invalid_request",
        "nested_unsupported",
    );
    let mut other = Provider::new(&format!("{ns}-other"));
    other.url.clone_from(&provider.url);
    exchange(&other.token("alice", json!({})), "read").is(400, "invalid_request", "subject_key");
    let since = Instant::now();
    kubectl(&["delete", "clusterrolebinding", &role]).accepted();
    let refused = eventually("alice's right is gone", || {
        Some(exchange(&alice, "read")).filter(|answer| answer.status != 200)
    });
    refused.is(400, "invalid_scope", "user_half");
    let took = since.elapsed();
    figure(&format!(
        "exchange: a user's right that is withdrawn is refused {:.1} s after it",
        took.as_secs_f64()
    ));
    assert!(took < std::time::Duration::from_secs(5 + 3), "{took:?}");
}
