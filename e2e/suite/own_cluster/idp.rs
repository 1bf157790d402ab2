//! An identity provider of our own: real HTTPS, realms that publish what they are told to, tokens of every odd kind, and a list
//! of what was asked for. It is in this process, on the host's end of the node's cable.

use super::in_node;
use crate::support::{apply, kubectl};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use axum::{
    Router,
    body::Body,
    extract::State,
    http::{Response, Uri},
};
use axum_server::tls_rustls::RustlsConfig;
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use deputy::runtime::tls::{Resolver, server_config};
use k8s_openapi::jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use std::{
    collections::{HashMap, HashSet},
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex},
};
use tokio::runtime::Runtime;

/// What this clone's cluster keeps on disk.
pub(super) const CLUSTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/.cluster");

/// What is answered under one path: status, `Location` and body.
type Document = (u16, Option<String>, Vec<u8>);

#[derive(Default)]
struct Served {
    documents: Mutex<HashMap<String, Document>>,
    asked: Mutex<Vec<String>>,
}

/// The provider.
pub(super) struct Idp {
    address: SocketAddr,
    certificate: String,
    served: Arc<Served>,
    _runtime: Runtime,
}

impl Idp {
    pub(super) fn new() -> Self {
        let network: Ipv4Addr =
            fs::read_to_string(format!("{CLUSTER}/network")).unwrap().trim().parse().unwrap();
        // The first address of the cable's network; the node has the second.
        let host = Ipv4Addr::from(u32::from(network) + 1);
        let listener = TcpListener::bind((host, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();

        let key = KeyPair::generate().unwrap();
        let names = CertificateParams::new([host.to_string()]).unwrap();
        let certificate = names.self_signed(&key).unwrap().pem();
        let resolver = Arc::new(Resolver::default());
        resolver.use_pair(certificate.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        let tls = RustlsConfig::from_config(Arc::new(server_config(resolver).unwrap()));

        let served = Arc::new(Served::default());
        let router = Router::new().fallback(answer).with_state(Arc::clone(&served));
        let runtime = Runtime::new().unwrap();
        runtime.spawn(async move {
            axum_server::from_tcp_rustls(listener, tls).unwrap().serve(router.into_make_service()).await
        });
        let idp = Self { address, certificate, served, _runtime: runtime };
        idp.masquerade("-I");
        idp
    }

    /// Pods' addresses are not known outside of the node.
    fn masquerade(&self, action: &str) {
        let (host, port) = (self.address.ip().to_string(), self.address.port().to_string());
        let rule = ["POSTROUTING", "-p", "tcp", "-d", &host, "--dport", &port, "-j", "MASQUERADE"];
        in_node(&[&["iptables", "-w", "-t", "nat", action], &rule[..]].concat(), "").accepted();
    }

    /// A realm with one key, called like it, that is trusted under the name `trusted`.
    pub(super) fn realm(&self, name: &str, trusted: &str) -> Realm {
        let url = format!("https://{}/{name}", self.address);
        let realm = Realm { url: url.clone(), key: Key::new(name), trusted: trusted.to_owned() };
        let document = json!({"issuer": url, "jwks_uri": format!("{url}/jwks")});
        self.publish(&format!("/{name}/.well-known/openid-configuration"), 200, None, document.to_string());
        self.publish(&format!("/{name}/jwks"), 200, None, json!({"keys": [realm.key.jwk()]}).to_string());
        let issuer = json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "TrustedIssuer", "metadata": {"name": trusted},
            "spec": {"issuer": {"url": url, "audiences": ["deputy"], "certificateAuthority": self.certificate},
                "tokens": [{"type": "AccessToken", "headerTypes": ["at+jwt"], "scopeCeiling": "None"},
                    {"type": "IDToken", "headerTypes": ["JWT"], "scopeCeiling": "None"}],
                "claimMappings": {"username": {"claim": "sub", "prefix": format!("{trusted}:")},
                    "groups": {"claim": "groups", "prefix": format!("{trusted}:")}},
                "maxTokenAgeSeconds": 900}});
        apply(&issuer.to_string()).accepted();
        realm
    }

    pub(super) fn publish(&self, path: &str, status: u16, location: Option<&str>, body: impl Into<Vec<u8>>) {
        let document = (status, location.map(str::to_owned), body.into());
        self.served.documents.lock().unwrap().insert(path.to_owned(), document);
    }

    /// Forgets what was asked for, and returns it.
    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.served.asked.lock().unwrap())
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }
}

impl Drop for Idp {
    fn drop(&mut self) {
        self.masquerade("-D");
    }
}

async fn answer(State(served): State<Arc<Served>>, uri: Uri) -> Response<Body> {
    served.asked.lock().unwrap().push(uri.path().to_owned());
    let document = served.documents.lock().unwrap().get(uri.path()).cloned();
    let (status, location, body) = document.unwrap_or((404, None, vec![]));
    let response = Response::builder().status(status);
    let response = match location {
        Some(location) => response.header("location", location),
        None => response,
    };
    response.body(body.into()).unwrap()
}

/// A realm of the provider.
pub(super) struct Realm {
    pub(super) url: String,
    pub(super) key: Key,
    trusted: String,
}

impl Drop for Realm {
    fn drop(&mut self) {
        kubectl(&["delete", "trustedissuer", &self.trusted, "--ignore-not-found", "--wait=false"]);
    }
}

impl Realm {
    /// What an access token of somebody's says, with some claims other than they should be; null leaves one out.
    pub(super) fn claims(&self, who: &str, besides: Value) -> Value {
        let now = Timestamp::now().as_second();
        let mut claims = json!({"iss": self.url, "aud": "deputy", "sub": who, "groups": ["readers"], "iat": now, "exp": now + 600});
        let all = claims.as_object_mut().unwrap();
        all.extend(besides.as_object().unwrap().clone());
        let kept: HashSet<_> = besides
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, v)| v.is_null())
            .map(|(k, _)| k.clone())
            .collect();
        all.retain(|name, _| !kept.contains(name));
        claims
    }

    pub(super) fn token(&self, who: &str, besides: Value) -> String {
        self.headed(&json!({}), &self.claims(who, besides).to_string())
    }

    /// One whose header has these members too, and whose payload is this.
    pub(super) fn headed(&self, besides: &Value, payload: &str) -> String {
        let mut header = json!({"alg": "ES256", "typ": "at+jwt", "kid": self.key.kid});
        header.as_object_mut().unwrap().extend(besides.as_object().unwrap().clone());
        self.key.sign(&header, payload)
    }
}

/// A P-256 key that signs whatever it is given.
pub(super) struct Key {
    pair: EcdsaKeyPair,
    pub(super) kid: String,
}

impl Key {
    pub(super) fn new(kid: &str) -> Self {
        let key =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        Self::read(kid, key.as_ref())
    }

    /// The one that signs the accounts' tokens of this cluster: what the API server never signs can be tried with it.
    pub(super) fn of_cluster(kid: &str) -> Self {
        let pem =
            fs::read_to_string(format!("{CLUSTER}/node/lib/kubernetes/pki/service-accounts.key")).unwrap();
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        Self::read(kid, &BASE64_STANDARD.decode(body).unwrap())
    }

    fn read(kid: &str, pkcs8: &[u8]) -> Self {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).unwrap();
        Self { pair, kid: kid.to_owned() }
    }

    pub(super) fn jwk(&self) -> Value {
        let point = &self.pair.public_key().as_ref()[1..];
        let [x, y] = [&point[..32], &point[32..]].map(|half| BASE64_URL_SAFE_NO_PAD.encode(half));
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": self.kid, "x": x, "y": y})
    }

    pub(super) fn sign(&self, header: &Value, payload: &str) -> String {
        let signed = unsigned(header, payload);
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Header and payload.
pub(super) fn unsigned(header: &Value, payload: &str) -> String {
    format!(
        "{}.{}",
        BASE64_URL_SAFE_NO_PAD.encode(header.to_string()),
        BASE64_URL_SAFE_NO_PAD.encode(payload)
    )
}
