//! Against a real server with a certificate of its own, on localhost.

use super::*;
use crate::{
    metrics::{Lookups, Metrics, Role},
    oauth::{Reason, SubjectTokenType, Token},
    verify::{
        Verifier,
        testing::{self, OWN, Pair, actor, claims, now},
    },
};
use axum::{
    Router,
    extract::State as Shared,
    http::{StatusCode, Uri, header::LOCATION},
    response::{IntoResponse, Response},
};
use axum_server::{
    Handle,
    tls_rustls::{RustlsConfig, bind_rustls},
};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
};
use serde_json::{Value, json};
use std::{io, net::SocketAddr};
use tokio::time::sleep;

/// What the server answers with.
#[derive(Clone)]
enum Answer {
    Keys(Value),
    /// Of a discovery document that is of another issuer.
    Mixed,
    Redirect,
    Oversize,
    Slow,
    Broken,
}

struct Site {
    url: String,
    answer: Mutex<Answer>,
    seen: Mutex<Vec<String>>,
}

impl Site {
    fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn fetches(&self) -> usize {
        self.seen.lock().unwrap().iter().filter(|path| path.contains("well-known")).count()
    }
}

/// Whoever falls for a bad answer has a key `bad`.
async fn answer(Shared(site): Shared<Arc<Site>>, uri: Uri) -> Response {
    site.seen.lock().unwrap().push(uri.path().to_owned());
    let given = site.answer.lock().unwrap().clone();
    if matches!(given, Answer::Slow) {
        sleep(Duration::from_millis(1800)).await;
    }
    if uri.path() == "/.well-known/openid-configuration" {
        let issuer = if matches!(given, Answer::Mixed) { "https://other.example.com" } else { &site.url };
        return json!({"issuer": issuer, "jwks_uri": format!("{}/keys", site.url)})
            .to_string()
            .into_response();
    }
    let bad = Pair::es256().jwk("bad");
    match given {
        Answer::Keys(keys) => json!({"keys": keys}).to_string().into_response(),
        Answer::Redirect if uri.path() == "/keys" => {
            (StatusCode::FOUND, [(LOCATION, "/elsewhere")]).into_response()
        }
        Answer::Oversize => json!({"keys": [bad], "x": "x".repeat(10 << 20)}).to_string().into_response(),
        Answer::Broken => {
            (StatusCode::INTERNAL_SERVER_ERROR, json!({"keys": [bad]}).to_string()).into_response()
        }
        Answer::Mixed | Answer::Redirect | Answer::Slow => json!({"keys": [bad]}).to_string().into_response(),
    }
}

struct World {
    site: Arc<Site>,
    issuer: Issuer,
    /// The certificate, PEM.
    authority: String,
    issuers: Arc<Issuers>,
    metrics: Arc<IssuerMetrics>,
    _server: JoinSet<io::Result<()>>,
}

/// Short enough to wait for.
const BOUNDS: Bounds = Bounds {
    fetch: Duration::from_millis(1500),
    retry: Duration::from_millis(200),
    refresh: Duration::from_millis(600),
    stale: Duration::from_secs(3600),
    end: Duration::from_secs(36_000),
};

async fn world(bounds: Bounds, first: Answer) -> World {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let secret = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], secret)
        .unwrap();
    let listener = std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("https://localhost:{}", address.port());
    let site = Arc::new(Site { url, answer: Mutex::new(first), seen: Mutex::default() });
    let router = Router::new().fallback(answer).with_state(Arc::clone(&site));
    let handle = Handle::new();
    let server = bind_rustls(address, RustlsConfig::from_config(Arc::new(config))).handle(handle.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(server.serve(router.into_make_service()));
    handle.listening().await.unwrap();
    let authority = certificate.pem();
    let source = json!({"url": site.url, "certificateAuthority": authority});
    let issuer = Issuer::try_from(&testing::object(&source)).unwrap();
    let metrics = IssuerMetrics::register(&mut Metrics::new(Role::Controller));
    let issuers = Arc::new(Issuers::new(bounds, Arc::clone(&metrics)));
    World { site, issuer, authority, issuers, metrics, _server: tasks }
}

impl World {
    async fn has(&self, kid: &str) -> bool {
        self.issuers.keys(&self.issuer, Some(kid)).await.has(Some(kid))
    }
}

fn keys(names: &[&str]) -> Answer {
    let pair = Pair::es256();
    Answer::Keys(names.iter().map(|name| pair.jwk(name)).collect())
}

#[tokio::test]
async fn a_set_is_fetched_once_and_again_for_a_key_that_is_new() {
    let world = world(BOUNDS, keys(&["k1"])).await;
    assert!(world.has("k1").await && world.has("k1").await);
    assert_eq!(world.site.fetches(), 1);
    world.site.answers(keys(&["k1", "k2"]));
    assert!(world.has("k2").await, "rotation is seen at once");
    assert_eq!(world.site.fetches(), 2);
    for n in 0..20 {
        assert!(!world.has(&format!("../../{n}")).await);
    }
    assert_eq!(world.site.fetches(), 2, "unknown keys are looked for once in a while");
    sleep(BOUNDS.refresh).await;
    world.site.answers(keys(&["k3"]));
    assert!(world.has("k3").await && !world.has("k1").await, "what was withdrawn is gone");
    assert_eq!(world.site.fetches(), 3);
}

#[tokio::test]
async fn who_asks_at_once_waits_for_one_fetch() {
    let world = world(BOUNDS, keys(&["k1"])).await;
    let all = (0..50).map(|_| world.has("k1"));
    assert!(futures::future::join_all(all).await.into_iter().all(|has| has));
    assert_eq!(world.site.fetches(), 1);
}

#[tokio::test]
async fn a_fetch_outlives_the_request_that_began_it() {
    let world = world(BOUNDS, keys(&["k1"])).await;
    let given_up = timeout(Duration::ZERO, world.has("k1")).await;
    assert!(given_up.is_err());
    assert!(world.has("k1").await);
    assert_eq!(world.site.fetches(), 1);
}

#[tokio::test]
async fn corpus_06_jwks_poison_leaves_the_old_set() {
    let secret = json!({"kty": "oct", "k": "c2VjcmV0", "kid": "bad"});
    for poison in [Answer::Redirect, Answer::Oversize, Answer::Slow, Answer::Broken, Answer::Mixed] {
        let world = world(BOUNDS, keys(&["k1"])).await;
        assert!(world.has("k1").await);
        world.site.answers(poison);
        assert!(!world.has("bad").await);
        assert_eq!(world.site.fetches(), 2);
        assert!(world.has("k1").await, "the old set is kept");
        assert!(!world.has("bad").await);
        let paths = world.site.seen.lock().unwrap().clone();
        assert!(!paths.contains(&"/elsewhere".to_owned()), "no redirect is followed");
    }
    let world = world(BOUNDS, Answer::Keys(json!([secret, Pair::es256().jwk("k1")]))).await;
    assert!(world.has("k1").await && !world.has("bad").await);
}

#[tokio::test]
async fn an_issuer_that_is_down_is_tried_again_soon_and_not_at_once() {
    let world = world(BOUNDS, Answer::Broken).await;
    assert!(!world.has("k1").await && !world.has("k1").await);
    assert_eq!(world.site.fetches(), 1);
    sleep(BOUNDS.retry).await;
    world.site.answers(keys(&["k1"]));
    assert!(world.has("k1").await);
}

#[tokio::test]
async fn an_old_set_is_fetched_beside_its_use_and_a_very_old_one_before() {
    let bounds = Bounds { stale: Duration::from_millis(700), refresh: Duration::ZERO, ..BOUNDS };
    let world = world(bounds, keys(&["k1"])).await;
    assert!(world.has("k1").await);
    world.site.answers(keys(&["k2"]));
    sleep(Duration::from_millis(750)).await;
    assert!(world.has("k1").await, "the old set serves this one still");
    sleep(Duration::from_millis(300)).await;
    assert_eq!(world.site.fetches(), 2);
    assert!(!world.issuers.keys(&world.issuer, None).await.has(Some("k1")));
    world.site.answers(keys(&["k3"]));
    sleep(Duration::from_millis(1450)).await;
    assert!(!world.has("k2").await, "a key that was withdrawn long ago is not used once more");
    world.site.answers(Answer::Broken);
    sleep(Duration::from_millis(1450)).await;
    assert!(world.has("k3").await, "but nothing better is to be had");
}

#[tokio::test]
async fn a_key_is_sought_again_soon_after_the_issuer_could_not_be_reached() {
    let bounds = Bounds { refresh: Duration::from_secs(3600), ..BOUNDS };
    let world = world(bounds, keys(&["k1"])).await;
    assert!(world.has("k1").await);
    world.site.answers(Answer::Broken);
    assert!(!world.has("k2").await && !world.has("k2").await);
    assert_eq!(world.site.fetches(), 2, "not at once");
    world.site.answers(keys(&["k2"]));
    sleep(BOUNDS.retry).await;
    assert!(world.has("k2").await);
}

#[tokio::test]
async fn a_set_that_could_not_be_fetched_for_long_ends() {
    let (began, bounds) = (Instant::now(), Bounds::default());
    let keys = json!({"keys": [Pair::es256().jwk("k1")]}).to_string();
    let mut state = State {
        keys: Some(Arc::new(KeySet::parse(keys.as_bytes()).unwrap())),
        fetched: Some(began),
        begun: Some(began + bounds.end - Duration::from_secs(2)),
        ..State::default()
    };
    assert_eq!(state.due(Some("k1"), &bounds, began + bounds.end - Duration::from_secs(1)), Due::Nothing);
    assert!(state.keys.is_some());
    assert_eq!(state.due(Some("k1"), &bounds, began + bounds.end), Due::Nothing, "one failed just now");
    assert!(state.keys.is_none(), "its keys may have been withdrawn meanwhile");
    assert_eq!(state.due(Some("k1"), &bounds, began + bounds.end + bounds.retry), Due::First);
}

#[tokio::test]
async fn a_certificate_of_a_stranger_is_refused() {
    let mut world = world(BOUNDS, keys(&["k1"])).await;
    let key = KeyPair::generate().unwrap();
    let other = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
    for authority in [Some(other), None] {
        world.issuer.keys = IssuerKeys::Discovered { certificate_authority: authority };
        world.issuer.origin.generation += 1;
        assert!(!world.has("k1").await);
    }
    assert_eq!(world.site.fetches(), 0);
}

#[tokio::test]
async fn the_number_of_issuers_is_bounded() {
    let issuers = Issuers::new(BOUNDS, IssuerMetrics::register(&mut Metrics::new(Role::Controller)));
    let inline = json!({"jwks": json!({"keys": [Pair::es256().jwk("k")]}).to_string()});
    let mut issuer = Issuer::try_from(&testing::object(&inline)).unwrap();
    for n in 0..ISSUERS + 20 {
        issuer.origin.uid = n.to_string();
        for generation in 0..2 {
            issuer.origin.generation = generation;
            assert!(issuers.keys(&issuer, Some("k")).await.has(Some("k")));
        }
    }
    assert_eq!(issuers.slots.lock().unwrap().len(), ISSUERS);
}

#[tokio::test]
async fn a_token_is_verified_from_end_to_end_and_known_again_until_its_key_goes() {
    let (pair, next) = (Pair::es256(), Pair::es256());
    let world = world(BOUNDS, Answer::Keys(json!([pair.jwk("k")]))).await;
    let source = json!({"url": world.site.url, "certificateAuthority": world.authority});
    let delegation = testing::delegation(testing::object(&source));
    let verifier = Verifier::new(Issuers::new(BOUNDS, Arc::clone(&world.metrics)), Lookups::default());
    let ask = async |token: &str, kind| {
        verifier.verify(&Token::from(token.to_owned()), kind, &delegation, OWN, &actor(), now()).await
    };
    let stranger = pair.good(&claims());
    let refused = ask(&stranger, SubjectTokenType::AccessToken).await.err();
    assert_eq!(refused, Some(Reason::SubjectIssuer));
    let token = pair.good(&testing::with("iss", &json!(world.site.url)));
    assert_eq!(ask(&token, SubjectTokenType::IdToken).await.err(), Some(Reason::SubjectTyp));
    assert_eq!(world.site.fetches(), 0, "nothing is fetched for a stranger, nor for what could not count");

    let first = ask(&token, SubjectTokenType::AccessToken).await.unwrap();
    let again = ask(&token, SubjectTokenType::AccessToken).await.unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    let later = k8s_openapi::jiff::Timestamp::from_second(testing::NOW + 600).unwrap();
    let text = Token::from(token.clone());
    let ended =
        verifier.verify(&text, SubjectTokenType::AccessToken, &delegation, OWN, &actor(), later).await;
    assert_eq!(ended.err(), Some(Reason::SubjectExpired), "known, and judged by time all the same");

    world.site.answers(Answer::Keys(json!([next.jwk("k")])));
    let unknown = pair.token(
        &json!({"alg": "ES256", "typ": "at+jwt", "kid": "new"}).to_string(),
        &testing::with("iss", &json!(world.site.url)).to_string(),
    );
    assert_eq!(ask(&unknown, SubjectTokenType::AccessToken).await.err(), Some(Reason::SubjectKey));
    let replaced = ask(&token, SubjectTokenType::AccessToken).await.err();
    assert_eq!(replaced, Some(Reason::SubjectSignature), "another key under the old name");
}
