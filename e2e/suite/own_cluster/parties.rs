//! Deputy among programs that we did not write: Dex as the users' identity provider, two clients that exchange tokens, two
//! verifiers and an MCP server of the official SDK. What of theirs is wired up how stands in `e2e/parties`.

use super::{
    exchange::{Answer, Replica, Scene},
    in_node,
};
use crate::support::{Exception, SYSTEM, apply, eventually, figure, get, kubectl, run};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use std::{sync::LazyLock, time::Instant};

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

/// The image that holds them.
static PARTIES: LazyLock<String> = LazyLock::new(|| {
    let said = run(concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/parties/load"), &[], "").accepted();
    // Beside how it went, if there was something to do.
    said.lines().find(|line| line.starts_with("deputy.local/")).unwrap().to_owned()
});

/// bcrypt of "password".
const HASH: &str = "$2a$10$JzXmfXtON/vKMO97QuhEgeMumUa9UQefE5aNTQ/phZgU4g6GiZWWm";

/// Dex, in a pod of the scene's namespace, and the TrustedIssuer that believes it.
struct Dex {
    ns: String,
    url: String,
}

/// What a user holds after login.
struct Login {
    access: String,
    id: String,
}

impl Dex {
    fn new(ns: &str) -> Self {
        let dex = Self { ns: ns.to_owned(), url: format!("https://dex.{ns}.svc/dex") };
        let key = KeyPair::generate().unwrap();
        let names = CertificateParams::new([format!("dex.{ns}.svc")]).unwrap();
        let certificate = names.self_signed(&key).unwrap().pem();
        let files = json!({"dex.json": dex.config().to_string(), "tls.crt": certificate, "tls.key": key.serialize_pem()});
        let meta = json!({"name": "dex", "namespace": ns});
        let service = json!({"selector": {"app": "dex"}, "ports": [{"port": 443, "targetPort": 5556}]});
        for object in [
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": files}),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": service}),
            json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "TrustedIssuer", "metadata": {"name": ns}, "spec": {
                "issuer": {"url": dex.url, "audiences": ["deputy"], "certificateAuthority": certificate},
                // Its access tokens are ID tokens by another name, and neither is marked.
                "tokens": [{"type": "AccessToken", "headerTypes": ["Absent"], "scopeCeiling": "None"},
                    {"type": "IDToken", "headerTypes": ["Absent"], "scopeCeiling": "None"}],
                "claimMappings": {"username": {"claim": "email", "prefix": format!("{ns}:")},
                    "groups": {"claim": "groups", "prefix": format!("{ns}:")}}}}),
        ] {
            apply(&object.to_string()).accepted();
        }
        dex.start();
        dex
    }

    fn config(&self) -> Value {
        let person = |name: &str, groups: Value| json!({"email": format!("{name}@example.com"), "username": name, "userID": name, "groups": groups, "hash": HASH});
        json!({
            "issuer": self.url,
            "storage": {"type": "memory"},
            "web": {"https": "0.0.0.0:5556", "tlsCert": "/etc/dex/tls.crt", "tlsKey": "/etc/dex/tls.key"},
            "oauth2": {"passwordConnector": "local", "skipApprovalScreen": true},
            "enablePasswordDB": true,
            "staticPasswords": [person("alice", json!(["readers"])), person("bob", json!(["visitors"]))],
            "staticClients": [
                {"id": "cli", "secret": "cli", "name": "what people log in with", "redirectURIs": ["http://127.0.0.1/cb"]},
                {"id": "deputy", "secret": "deputy", "name": "whom its tokens are for", "trustedPeers": ["cli"],
                    "redirectURIs": ["http://127.0.0.1/cb"]}],
        })
    }

    fn start(&self) {
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "dex", "namespace": self.ns, "labels": {"app": "dex"}},
            "spec": {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
                "volumes": [{"name": "files", "secret": {"secretName": "dex"}}],
                "containers": [{"name": "dex", "image": *PARTIES, "imagePullPolicy": "Never",
                    "command": ["dex", "serve", "/etc/dex/dex.json"],
                    "volumeMounts": [{"name": "files", "mountPath": "/etc/dex"}],
                    "readinessProbe": {"httpGet": {"scheme": "HTTPS", "path": "/dex/healthz", "port": 5556},
                        "periodSeconds": 1}}]}});
        apply(&pod.to_string()).accepted();
        kubectl(&["-n", &self.ns, "wait", "--for=condition=Ready", "pod/dex", "--timeout=60s"]).accepted();
        let address = format!("{}:5556", self.address());
        // A fetch that fails is the one that a minute has.
        eventually("the Service leads there", || {
            in_node(&["iptables-save", "-t", "nat"], "").accepted().contains(&address).then_some(())
        });
    }

    fn address(&self) -> String {
        get(&["-n", &self.ns, "pod", "dex"])["status"]["podIP"].as_str().unwrap().to_owned()
    }

    /// Its keys are in memory: it comes back with another.
    fn restart(&self) {
        kubectl(&["-n", &self.ns, "delete", "pod", "dex", "--grace-period=0", "--force", "--wait"])
            .accepted();
        self.start();
    }

    fn login(&self, who: &str) -> Login {
        let url = format!("https://{}:5556/dex/token", self.address());
        let user = format!("username={who}@example.com");
        let scope = "scope=openid email groups audience:server:client_id:deputy";
        let curl = ["curl", "-sk", "--max-time", "10", "-u", "cli:cli", "-d", "grant_type=password", "-d"];
        let rest = [&*user, "-d", "password=password", "--data-urlencode", scope, &*url];
        let said: Value =
            serde_json::from_str(&in_node(&[&curl[..], &rest].concat(), "").accepted()).unwrap();
        let token = |name: &str| said[name].as_str().unwrap_or_else(|| panic!("{said}")).to_owned();
        Login { access: token("access_token"), id: token("id_token") }
    }
}

impl Drop for Dex {
    fn drop(&mut self) {
        kubectl(&["delete", "trustedissuer", &self.ns, "--ignore-not-found"]);
        for kind in ["clusterrole", "clusterrolebinding"] {
            kubectl(&["delete", kind, &format!("{}-readers", self.ns), "--ignore-not-found"]);
        }
    }
}

/// Readers by Dex's word may lend the scene's agent what they have, and have `read`.
fn readers_may_lend(scene: &Scene) {
    let ns = scene.ns.0.as_str();
    let consent = json!({"spec": {"allowedAgents": [{"name": "here", "namespaces": {"names": [ns]},
        "modes": ["OnBehalfOfUser"], "scopes": ["read", "write"]}]}});
    kubectl(&["patch", "protectedresource", ns, "--type=merge", "-p", &consent.to_string()]).accepted();
    let policy = json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "DelegationPolicy",
        "metadata": {"name": "readers", "namespace": ns}, "spec": {"agents": {"names": ["a"]}, "mode": "OnBehalfOfUser",
            "subjects": [{"trustedIssuerName": ns, "groups": [format!("{ns}:readers")]}],
            "resources": [{"protectedResourceName": ns, "scopes": ["read", "write"]}],
            "token": {"maxLifetimeSeconds": 300}}});
    let role = format!("{ns}-readers");
    let rights = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": role},
        "rules": [{"apiGroups": ["deputy.dev"], "resources": ["protectedresources/scopes"], "resourceNames": [ns],
            "verbs": ["read"]}]});
    for object in [policy, rights] {
        apply(&object.to_string()).accepted();
    }
    let group = format!("{ns}:readers");
    kubectl(&["create", "clusterrolebinding", &role, "--clusterrole", &role, "--group", &group]).accepted();
}

/// Dex, the readers, and the agent's pod, which may be entered meanwhile.
struct World {
    dex: Dex,
    _open: Exception,
    scene: Scene,
    broker: Replica,
}

impl World {
    fn new() -> Self {
        let scene = Scene::running(&PARTIES);
        let dex = Dex::new(&scene.ns.0);
        readers_may_lend(&scene);
        let (open, said) = Exception::new(&scene.ns, "parties", "effect: Allow, rules: [AI501]", 600);
        said.accepted();
        let world = Self { dex, _open: open, scene, broker: Replica::first() };
        eventually("the pod may be entered", || {
            world.scene.ns.kubectl(&["exec", "p", "--", "true"]).ok.then_some(())
        });
        world
    }

    /// What a party in the agent's pod answers, or says on its way out.
    fn ask(&self, party: &str, question: &Value) -> Result<Value, String> {
        let arguments = ["-n", &self.scene.ns.0, "exec", "-i", "p", "--", "parties", party];
        let said = run("kubectl", &arguments, &question.to_string());
        if said.ok {
            serde_json::from_str(&said.text).map_err(|error| error.to_string())
        } else {
            Err(said.text)
        }
    }

    /// An exchange by hand, for the parties' are to be compared with.
    fn exchange(&self, subject: &str, kind: &str) -> Answer {
        let mut form = self.scene.form("read");
        form.retain(|(name, _)| !name.starts_with("subject_token"));
        form.extend([
            ("subject_token", subject),
            ("subject_token_type", kind),
            ("actor_token", &self.scene.token),
            ("actor_token_type", super::exchange::JWT),
        ]);
        self.broker.exchange(&form)
    }
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// Alice logs in at Dex; two clients get a token for her agent, two verifiers believe it, for its resource alone.
#[test]
fn foreign_clients_get_tokens_that_foreign_verifiers_believe() {
    let world = World::new();
    let (ns, resource) = (&world.scene.ns.0, &world.scene.resource);
    let (alice, bob) = (world.dex.login("alice"), world.dex.login("bob"));
    eventually("alice may lend", || {
        (world.exchange(&alice.access, ACCESS_TOKEN).status == 200).then_some(())
    });
    for client in ["exchange-zitadel", "exchange-oauth2"] {
        let wish = |subject: &str, scopes: Value| json!({"subject_token": subject, "subject_token_type": ACCESS_TOKEN, "resource": resource, "scopes": scopes});
        let given = world.ask(client, &wish(&alice.access, json!(["read", "write"]))).unwrap();
        assert_eq!(given["scopes"], json!(["read"]), "{client}: narrower, and told so");
        let token = given["access_token"].as_str().unwrap();
        let agent = format!("system:serviceaccount:{ns}:agent.a");
        let seen = claims(token);
        assert_eq!(
            (&seen["sub"], &seen["act"]["sub"]),
            (&json!(format!("{ns}:alice@example.com")), &json!(agent))
        );
        for verifier in ["verify-go-oidc", "verify-go-jose"] {
            let shown = |audience: &str| world.ask(verifier, &json!({"token": token, "audience": audience}));
            let believed = shown(resource).unwrap();
            assert_eq!((&believed["sub"], &believed["act"]), (&seen["sub"], &seen["act"]), "{verifier}");
            let refused = shown("https://other.example.com").unwrap_err();
            assert!(refused.contains("aud"), "{verifier}: {refused}");
            figure(&format!(
                "parties: {client}, {verifier}: {} for {}; elsewhere: {}",
                believed["act"]["sub"],
                believed["sub"],
                refused.lines().next().unwrap_or_default()
            ));
        }
        // Why there is no token reaches whoever runs the client.
        let refused = world.ask(client, &wish(&bob.access, json!(["read"]))).unwrap_err();
        assert!(refused.contains("actor_unauthorized"), "{client}: {refused}");
        let refused = world.ask(client, &wish(&alice.access, json!(["write"]))).unwrap_err();
        assert!(refused.contains("invalid_scope"), "{client}: {refused}");
    }
}

/// Without an actor one of them sends empty parameters, and both are understood.
#[test]
fn foreign_clients_get_tokens_for_the_agent_itself() {
    let scene = Scene::running(&PARTIES);
    let (_open, said) = Exception::new(&scene.ns, "parties", "effect: Allow, rules: [AI501]", 600);
    said.accepted();
    let wish = json!({"resource": scene.resource, "scopes": ["read"]}).to_string();
    for client in ["exchange-zitadel", "exchange-oauth2"] {
        let given = eventually("the pod may be entered", || {
            let arguments = ["-n", &scene.ns.0, "exec", "-i", "p", "--", "parties", client];
            let said = run("kubectl", &arguments, &wish);
            said.ok.then(|| serde_json::from_str::<Value>(&said.text).unwrap())
        });
        let seen = claims(given["access_token"].as_str().unwrap());
        let agent = format!("system:serviceaccount:{}:agent.a", scene.ns.0);
        assert_eq!((&seen["sub"], seen.get("act")), (&json!(agent), None), "{client}");
    }
}

/// An MCP server of the official SDK, in a pod that is no agent's.
fn mcp_server(world: &World) {
    let ns = &world.scene.ns.0;
    let environment = json!([{"name": "RESOURCE", "value": world.scene.resource},
        {"name": "ISSUER", "value": super::exchange::ISSUER}, {"name": "CA_FILE", "value": "/etc/deputy/ca.crt"}]);
    let spec = json!({"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
        "volumes": [{"name": "ca", "configMap": {"name": "agent.a"}}],
        "containers": [{"name": "mcp", "image": *PARTIES, "imagePullPolicy": "Never", "command": ["parties", "mcp-serve"],
            "env": environment, "volumeMounts": [{"name": "ca", "mountPath": "/etc/deputy"}],
            "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1}}]});
    let meta = json!({"name": "mcp", "namespace": ns, "labels": {"app": "mcp"}});
    let ports = json!({"selector": {"app": "mcp"}, "ports": [{"port": 80, "targetPort": 8080}]});
    for object in [
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": ports}),
    ] {
        apply(&object.to_string()).accepted();
    }
    world.scene.ns.runs("mcp");
}

/// The resource sees who acts for whom. A login is no token for a resource: what alice got from Dex is refused there.
#[test]
fn an_mcp_server_sees_who_acts_and_refuses_a_login() {
    let world = World::new();
    mcp_server(&world);
    let (ns, alice) = (&world.scene.ns.0, world.dex.login("alice"));
    let given = eventually("alice may lend", || {
        Some(world.exchange(&alice.id, ID_TOKEN)).filter(|answer| answer.status == 200)
    });
    let call = |token: &str| {
        world.ask("mcp-call", &json!({"endpoint": format!("http://mcp.{ns}.svc/"), "token": token}))
    };
    let token = given.body["access_token"].as_str().unwrap();
    let seen = eventually("the server answers", || call(token).ok());
    let agent = format!("system:serviceaccount:{ns}:agent.a");
    assert_eq!((&seen["act"]["sub"], &seen["act"]["sub_profile"]), (&json!(agent), &json!("ai_agent")));
    assert_eq!((&seen["sub"], &seen["scope"]), (&json!(format!("{ns}:alice@example.com")), &json!("read")));
    figure(&format!("parties: an MCP server sees {seen}"));
    for (what, token) in [
        ("an ID token", &*alice.id),
        ("an access token of the provider's", &alice.access),
        ("the agent's own token", &world.scene.token),
    ] {
        let refused = call(token).unwrap_err();
        assert!(refused.contains("Unauthorized") || refused.contains("401"), "{what}: {refused}");
    }
}

/// Dex begins anew with another key: the broker learns it at the first token that names it, and forgets the one before.
#[test]
fn a_provider_that_has_a_new_key_is_followed() {
    let world = World::new();
    let exchange = |login: &Login| world.exchange(&login.access, ACCESS_TOKEN);
    let before = world.dex.login("alice");
    eventually("alice may lend", || (exchange(&before).status == 200).then_some(()));
    world.dex.restart();
    let after = world.dex.login("alice");
    let key = |login: &Login| jsonwebtoken::decode_header(&login.access).unwrap();
    assert_ne!(key(&before).kid, key(&after).kid);
    assert_eq!(key(&before).typ, None, "Dex marks no token");
    let since = Instant::now();
    let answer = exchange(&after);
    assert_eq!(answer.status, 200, "{}", answer.body);
    figure(&format!(
        "parties: a token of a key that is not known yet: {:.2} s",
        since.elapsed().as_secs_f64()
    ));
    exchange(&before).is(400, "invalid_request", "subject_key");
    let log = kubectl(&["-n", SYSTEM, "logs", "deputy-broker-0", "--tail=-1"]).accepted();
    assert!(!log.contains(&after.access[..40]), "a token is in the log");
}
