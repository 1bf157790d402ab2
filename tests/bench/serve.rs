//! The broker on a port, as it is shipped, and two constant answers beside it: what TLS and HTTP alone cost.

use super::{desk::Desk, place, scene};
use axum::{
    Router,
    body::Bytes,
    http::{StatusCode, header},
    routing::post,
};
use axum_server::Handle;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use deputy::runtime::{
    clock,
    server::{self, Bounds},
    tls::{Resolver, server_config},
};
use rcgen::{CertificateParams, KeyPair};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    process::{Child, Stdio},
    sync::Arc,
};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinSet, task::spawn_blocking};

/// Where constant answers are given, as long as those of an exchange and of an evaluation.
pub(super) const CONSTANT: [(&str, usize); 2] = [("/constant/token", 1400), ("/constant/evaluation", 200)];

/// What a server is started with.
#[derive(Serialize, Deserialize)]
struct Wanted {
    idp: String,
    mode: String,
}

/// Where it is.
#[derive(Serialize, Deserialize)]
struct Found {
    address: SocketAddr,
    certificate: String,
}

/// A server in a process of its own, which ends with this.
pub(super) struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its certificate, PEM.
    pub certificate: String,
}

impl Server {
    /// One that believes the identity provider of this key, and asks for users' rights by `mode`.
    pub(super) fn start(idp: &[u8], mode: &str) -> Self {
        let mut command = place::start("serve", place::SERVER);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let wanted = Wanted { idp: BASE64_STANDARD.encode(idp), mode: mode.to_owned() };
        writeln!(child.stdin.as_mut().unwrap(), "{}", serde_json::to_string(&wanted).unwrap()).unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let Found { address, certificate } = serde_json::from_str(&line).expect("the server does not start");
        Self { child, address, certificate }
    }

    /// Its process.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        _ = self.child.wait();
    }
}

/// The disk that the record is on.
pub(super) fn directory() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A broker that believes the identity provider of this key.
pub(super) fn desk(idp: &[u8], mode: &str) -> Desk {
    let mut desk = Desk::with(idp, directory(), clock::now, scene::random);
    let way = match mode {
        "Claims" => json!({"type": "Claims", "claims": {"scopeClaim": "scope"}}),
        _ => json!({"type": "Kubernetes"}),
    };
    desk.becomes(|objects| objects.resource["spec"]["userAuthorization"] = way);
    desk
}

/// Serves until nobody holds its standard input any more.
pub(super) fn run() {
    let mut line = String::new();
    io::stdin().read_line(&mut line).unwrap();
    let wanted: Wanted = serde_json::from_str(&line).unwrap();
    // As `cmd` has it: as many workers as there are cores for this process.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(serve(&wanted));
}

async fn serve(wanted: &Wanted) {
    let desk = desk(&BASE64_STANDARD.decode(&wanted.idp).unwrap(), &wanted.mode);
    let router = constant(desk.router.clone());
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
    let resolver = Arc::new(Resolver::default());
    resolver.use_pair(certificate.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    let (config, handle) = (server_config(resolver).unwrap(), Handle::new());
    let (_serving, is_serving) = watch::channel(true);
    let mut server = JoinSet::new();
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    server.spawn(server::serve_tls(address, config, router, Bounds::default(), is_serving, handle.clone()));
    let address = handle.listening().await.unwrap();
    println!("{}", serde_json::to_string(&Found { address, certificate }).unwrap());
    spawn_blocking(|| io::stdin().read_line(&mut String::new())).await.unwrap().unwrap();
}

/// The body is read, and the answer is as long as the real one.
fn constant(router: Router) -> Router {
    CONSTANT.into_iter().fold(router, |router, (path, length)| {
        let answer: &'static str = Box::leak("x".repeat(length).into_boxed_str());
        let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
        router.route(path, post(move |_: Bytes| async move { (StatusCode::OK, headers, answer) }))
    })
}
