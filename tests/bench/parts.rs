//! Where the time goes: each step alone, in this process, on one core, one after the other.

use super::{
    desk::{ACCOUNT, BROKER, CLUSTER, Desk, IDP, RESOURCE},
    place, scene,
    scene::Scene,
    serve,
};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
        UnparsedPublicKey,
    },
};
use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, Request, header},
};
use deputy::{
    audit::{Entry, PseudonymKey},
    authzen::EvaluationRequest,
    index::Snapshot,
    oauth::{Actor, Claims, SubjectTokenType, TOKEN_TYPE, Token, TokenExchange},
    policy::exchange::{self, Agent, Decision, Right, Subject, authorize, expiry, narrow},
    runtime::clock,
    store,
    token::{Algorithm, Signer},
};
use futures::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    hint::black_box,
    process,
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use tower::ServiceExt as _;

/// How long each step is measured.
const TIME: Duration = Duration::from_millis(300);
/// Tokens for what is measured with fresh ones.
const TOKENS: usize = 4_000;
/// Requests under way at once where the record is waited for.
const TOGETHER: usize = 64;

/// Microseconds of each step.
pub(super) struct Parts {
    /// Of a signature alone: verified, and made.
    pub verify: f64,
    /// See above.
    pub sign: f64,
    /// Of an exchange, by name.
    pub exchange: Vec<(&'static str, f64)>,
    /// Of an evaluation.
    pub evaluation: Vec<(&'static str, f64)>,
    /// Bytes of the record of an exchange and of an evaluation, frame included.
    pub entries: [usize; 2],
}

/// Microseconds that `step` takes.
fn time(mut step: impl FnMut(usize)) -> f64 {
    let (start, mut times) = (Instant::now(), 0);
    while start.elapsed() < TIME {
        for _ in 0..16 {
            step(times);
            times += 1;
        }
    }
    start.elapsed().as_secs_f64() * 1e6 / times as f64
}

/// Verification and signature of a token's length, with nothing around them.
fn signatures() -> (f64, f64) {
    let (random, message) = (SystemRandom::new(), [b'x'; 700]);
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let signature = pair.sign(&random, &message).unwrap();
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref().to_vec());
    let verify = time(|_| key.verify(black_box(&message), signature.as_ref()).unwrap());
    (verify, time(|_| _ = black_box(pair.sign(&random, black_box(&message)).unwrap())))
}

/// All of it.
pub(super) async fn measured(idp: &[u8]) -> Parts {
    let (verify, sign) = signatures();
    let (scene, desk) = (Scene::new(idp), serve::desk(idp, "Claims"));
    let fresh: Vec<_> = (0..TOKENS).map(|n| scene.user(n)).collect();
    let forms: Vec<_> = fresh.iter().map(|token| scene.form(token)).collect();
    let cold = cost(exchanged(&desk, &forms).await.1, TOKENS);
    let (answers, taken) = exchanged(&desk, &forms).await;
    let tokens: Vec<_> = answers.iter().map(|answer| answer["access_token"].as_str().unwrap()).collect();
    let entry = last_entry(&desk).await;
    let questions: Vec<_> =
        tokens.iter().enumerate().map(|(n, token)| Scene::question(n, "find", token).to_string()).collect();
    let credential = scene.credential();
    let first = cost(evaluated(&desk, &questions, &credential).await, TOKENS);
    let again = cost(evaluated(&desk, &questions, &credential).await, TOKENS);
    let asked = last_entry(&desk).await;
    let exchange = [
        ("the whole, without TLS and HTTP, fresh token", cold),
        ("the whole, known token", cost(taken, TOKENS)),
    ];
    let evaluation = [
        ("the whole with its route, without TLS and HTTP, token at first sight", first),
        ("the whole, known token", again),
        ("question read", time(|n| _ = EvaluationRequest::parse(questions[n % TOKENS].as_bytes()).unwrap())),
        ("record entry written as JSON", json(&asked)),
    ];
    let steps = steps(&desk, &scene, &forms, &entry, tokens[0]).await;
    Parts {
        verify,
        sign,
        exchange: exchange.into_iter().chain(steps).collect(),
        evaluation: evaluation.into(),
        entries: [&entry, &asked].map(|entry| entry.to_bytes().unwrap().len() + 32),
    }
}

fn cost(taken: Duration, times: usize) -> f64 {
    taken.as_secs_f64() * 1e6 / times as f64
}

fn json(entry: &Entry) -> f64 {
    time(|_| _ = black_box(black_box(entry).to_bytes().unwrap()))
}

/// The steps of an exchange that can be taken alone.
async fn steps(
    desk: &Desk,
    scene: &Scene,
    forms: &[String],
    entry: &Entry,
    token: &str,
) -> Vec<(&'static str, f64)> {
    let headers = HeaderMap::new();
    let snapshot = Arc::clone(&desk.broker.snapshots.borrow());
    let unseen: Vec<_> = (0..TOKENS).map(|n| Token::from(scene.user(n))).collect();
    let own = Signer::new(Algorithm::Es256, &super::desk::key()).unwrap();
    let claims: Claims = serde_json::from_value(payload(token)).unwrap();
    let pseudonyms = PseudonymKey::new("1".into(), &[7; 32]).unwrap();
    let cold = verified(desk, &snapshot, &unseen).await;
    let warm = verified(desk, &snapshot, &unseen).await;
    vec![
        ("form read", time(|n| _ = TokenExchange::parse(&headers, forms[n % TOKENS].as_bytes()).unwrap())),
        ("user's token verified, fresh", cold),
        ("user's token found again", warm),
        ("policy: authorize, narrow, expiry", time(|_| judge(&snapshot))),
        ("pseudonym", time(|n| _ = black_box(pseudonyms.user(IDP, &format!("corp:user-{n}"))))),
        ("two random names", time(|_| _ = black_box((scene::random(), scene::random())))),
        ("claims written as JSON", time(|_| _ = black_box(serde_json::to_vec(&claims).unwrap()))),
        ("signed", {
            let claims = serde_json::to_vec(&claims).unwrap();
            time(|_| _ = black_box(own.sign(TOKEN_TYPE, &claims).unwrap()))
        }),
        ("record entry written as JSON", json(entry)),
    ]
}

/// Microseconds to verify one of `tokens`.
async fn verified(desk: &Desk, snapshot: &Snapshot, tokens: &[Token]) -> f64 {
    let actor = Actor::agent(CLUSTER, ACCOUNT);
    let start = Instant::now();
    for token in tokens {
        let kind = SubjectTokenType::AccessToken;
        let verified =
            desk.broker.subjects.verify(token, kind, &snapshot.delegation, BROKER, &actor, clock::now());
        _ = verified.await.unwrap();
    }
    cost(start.elapsed(), tokens.len())
}

/// What an exchange has decided.
fn judge(snapshot: &Snapshot) {
    let (scopes, groups) = (["read", "search"].map(str::to_owned).into(), ["corp:readers".to_owned()]);
    let subject = Subject { issuer: IDP, username: "corp:user-1", groups: &groups, ceiling: None };
    let agent = Agent { namespace: "ns", name: "a", uid: "uid-a" };
    let scopes: BTreeSet<String> = scopes;
    let request = exchange::Request {
        agent,
        subject: Some(subject),
        resource: RESOURCE,
        scopes: &scopes,
        resting_on: None,
    };
    let Decision::Permit(candidates) = authorize(&request, snapshot) else { panic!("not permitted") };
    let rights: BTreeMap<_, _> = scopes.iter().map(|scope| (scope.clone(), Right::Allowed)).collect();
    let Decision::Permit(grant) = narrow(candidates, &rights) else { panic!("not permitted") };
    let now = clock::now();
    assert!(matches!(expiry(black_box(&grant), now, &[]), Decision::Permit(_)));
}

/// What comes of all of `forms`, and the time on a core it took, the log's thread included.
async fn exchanged(desk: &Desk, forms: &[String]) -> (Vec<Value>, Duration) {
    let (headers, before) = (HeaderMap::new(), place::used(process::id()));
    let mut answers = vec![];
    for forms in forms.chunks(TOGETHER) {
        let asked = forms.iter().map(|form| desk.broker.exchange(&headers, form.as_bytes()));
        answers.extend(join_all(asked).await.into_iter().map(|given| given.unwrap().body()));
    }
    let taken = place::used(process::id()) - before;
    (answers.iter().map(|body| serde_json::from_str(body).unwrap()).collect(), taken)
}

/// The time on a core it takes to permit all of `questions`.
async fn evaluated(desk: &Desk, questions: &[String], credential: &str) -> Duration {
    let before = place::used(process::id());
    for questions in questions.chunks(TOGETHER) {
        let mut asked: FuturesUnordered<_> =
            questions.iter().map(|question| evaluate(desk, question, credential)).collect();
        while asked.next().await.is_some() {}
    }
    place::used(process::id()) - before
}

async fn evaluate(desk: &Desk, question: &str, credential: &str) {
    let request = Request::post("/access/v1/evaluation")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, credential)
        .body(Body::from(question.to_owned()));
    let response = desk.router.clone().oneshot(request.unwrap()).await.unwrap();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    assert!(body.starts_with(b"{\"decision\":true"), "{}", body.escape_ascii());
}

/// The entry that is on record last.
async fn last_entry(desk: &Desk) -> Entry {
    desk.broker.record.append(b"{}").await.unwrap();
    let entries = store::entries(desk.record.path()).unwrap().filter_map(|entry| {
        let entry = entry.unwrap().1;
        serde_json::from_slice::<Entry>(&entry).ok()
    });
    entries.last().unwrap()
}

fn payload(token: &str) -> Value {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}
