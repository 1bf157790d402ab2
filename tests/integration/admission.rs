//! The webhook's router as production serves it, fed with requests as the API server and others send them.

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    http::{Request, StatusCode},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use deputy::{
    admission::{Limits, Webhook, router},
    index::{
        Index, Observed, ReservedAudiences, Snapshot,
        freshness::{Freshness, Prover, Wholeness},
    },
    metrics::{AdmissionMetrics, Metrics, Role},
    policy::Settings,
};
use futures::{StreamExt as _, stream};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};
use tower::ServiceExt as _;

/// What the webhook's clock says.
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// A webhook and the world it looks at.
struct World {
    index: Index,
    snapshots: watch::Sender<Arc<Snapshot>>,
    freshness: watch::Sender<Freshness>,
    metrics: Metrics,
    router: Router,
}

impl World {
    fn new(limits: Limits) -> Self {
        let index = Index::new(ReservedAudiences::default());
        let (snapshots, newest) = watch::channel(index.snapshot());
        let mut metrics = Metrics::new(Role::Webhook);
        let admission = AdmissionMetrics::register(&mut metrics);
        let settings = Settings::builtin(ReservedAudiences::default()).unwrap();
        let trust_domain = "cluster.local".parse().unwrap();
        let (freshness, proved) = watch::channel(proved_now());
        let webhook = Webhook::new(newest, proved, settings, || NOW, trust_domain, admission, limits);
        Self { index, snapshots, freshness, metrics, router: router(Arc::new(webhook)) }
    }

    /// One with the agent `a` in namespace `ns`.
    fn with_agent() -> Self {
        let mut world = Self::new(Limits::default());
        world.declare();
        world.give_account();
        world
    }

    fn declare(&mut self) {
        let identity = json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "AgentIdentity",
            "metadata": {"name": "a", "namespace": "ns", "uid": "uid-a", "generation": 1},
            "spec": {"owner": "o@example.com", "tokens": [{"name": "t", "audience": "https://papers.example.com"}]}});
        self.index.apply_identity(Observed::Object(serde_json::from_value(identity).unwrap()));
        self.snapshots.send_replace(self.index.snapshot());
    }

    fn give_account(&mut self) {
        let account = json!({"metadata": {"name": "agent.a", "namespace": "ns", "uid": "x", "ownerReferences": [
            {"apiVersion": "deputy.dev/v1alpha1", "kind": "AgentIdentity", "name": "a", "uid": "uid-a",
             "controller": true}]}});
        self.index.apply_account(&serde_json::from_value(account).unwrap());
        self.snapshots.send_replace(self.index.snapshot());
    }

    async fn send(&self, path: &str, body: impl Into<Body>) -> (StatusCode, Bytes) {
        let request = Request::post(path).header("content-type", "application/json").body(body.into());
        send(&self.router, request.unwrap()).await
    }

    /// The response to a review of `request`.
    async fn review(&self, path: &str, request: &Value) -> Value {
        let review =
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
        let (status, body) = self.send(path, review.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{body:?}");
        response(&body)
    }

    fn counted(&self, line: &str) -> bool {
        self.metrics.render().unwrap().lines().any(|l| l == line)
    }
}

/// A view that is current at this moment, and may be ten seconds old.
fn proved_now() -> Freshness {
    let whole = Wholeness { whole: true, breaks: 0 };
    let mut prover = Prover::new(Duration::from_secs(10));
    prover.send((), Instant::now().into_std(), whole);
    assert!(prover.receive(&(), whole));
    prover.freshness()
}

async fn send(router: &Router, request: Request<Body>) -> (StatusCode, Bytes) {
    let response = router.clone().oneshot(request).await.unwrap();
    (response.status(), to_bytes(response.into_body(), usize::MAX).await.unwrap())
}

fn response(body: &[u8]) -> Value {
    let review: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(
        (&review["apiVersion"], &review["kind"]),
        (&json!("admission.k8s.io/v1"), &json!("AdmissionReview"))
    );
    review["response"].clone()
}

fn pod() -> Value {
    json!({"metadata": {"generateName": "p-", "labels": {"deputy.dev/agent": "a"}},
           "spec": {"serviceAccountName": "default", "containers": [{"name": "app", "image": "example.com/a:1"}]}})
}

/// A request to create `pod`, as the API server words it.
fn create(pod: &Value) -> Value {
    json!({"uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "namespace": "ns", "operation": "CREATE",
           "resource": {"group": "", "version": "v1", "resource": "pods"}, "object": pod, "oldObject": null,
           "userInfo": {"username": "dana", "groups": ["system:authenticated"], "extra": {"a": ["b"]}},
           "dryRun": false, "options": {"kind": "CreateOptions"}})
}

fn message(response: &Value) -> &str {
    response["status"]["message"].as_str().unwrap()
}

fn patched(pod: &Value, response: &Value) -> Value {
    assert_eq!(response["patchType"], "JSONPatch");
    let patch = BASE64_STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &serde_json::from_slice::<json_patch::Patch>(&patch).unwrap()).unwrap();
    pod
}

#[tokio::test]
async fn a_labelled_pod_is_patched_and_then_passes() {
    let world = World::with_agent();
    let first = world.review("/mutate", &create(&pod())).await;
    assert_eq!((&first["uid"], &first["allowed"]), (&json!("u"), &json!(true)));
    assert_eq!(first["auditAnnotations"]["identity"], "uid-a");
    assert_eq!(first["auditAnnotations"]["principal"], "spiffe://cluster.local/ns/ns/sa/agent.a");
    let pod = patched(&pod(), &first);
    assert_eq!(pod["spec"]["serviceAccountName"], "agent.a");

    let again = world.review("/mutate", &create(&pod)).await;
    assert_eq!(
        (&again["allowed"], &again["patch"], &again["patchType"]),
        (&json!(true), &Value::Null, &Value::Null)
    );

    let judged = world.review("/validate", &create(&pod)).await;
    assert_eq!(judged["allowed"], true, "{judged}");
    assert_eq!(judged["auditAnnotations"]["snapshot"], "2");
    assert!(world.counted(r#"deputy_admission_reviews_total{webhook="mutate",verdict="patched"} 1"#));
    assert!(world.counted(r#"deputy_admission_reviews_total{webhook="validate",verdict="allowed"} 1"#));
}

#[tokio::test]
async fn every_finding_is_in_one_refusal() {
    let world = World::with_agent();
    let mut pod = patched(&pod(), &world.review("/mutate", &create(&pod())).await);
    pod["spec"]["hostNetwork"] = json!(true);
    pod["spec"]["containers"][0]["env"] = json!([
        {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "B", "value": "AKIAQ3EGRZ7XJ4WTN5LK"}]);
    let refused = world.review("/validate", &create(&pod)).await;
    assert_eq!((&refused["allowed"], &refused["status"]["code"]), (&json!(false), &json!(403)));
    assert_eq!(refused["status"]["reason"], "Forbidden");
    let message = message(&refused);
    for rule in ["[AI201]", "[AI206]", "[AI401]"] {
        assert!(message.lines().any(|line| line.starts_with(rule)), "{rule} in {message}");
    }
    assert!(!message.contains("AKIA"), "{message}");
    assert_eq!(refused["auditAnnotations"]["rules"], "AI201,AI206,AI401");
    assert_eq!(refused["auditAnnotations"]["identity"], "uid-a");
    assert!(world.counted(r#"deputy_admission_violations_total{rule="AI401",action="deny"} 1"#));
}

#[tokio::test]
async fn debug_containers_are_judged_on_validate_only() {
    let world = World::with_agent();
    let mut request = create(&pod());
    request["operation"] = json!("UPDATE");
    request["subResource"] = json!("ephemeralcontainers");
    request["object"]["spec"]["ephemeralContainers"] =
        json!([{"name": "d", "image": "example.com/d:1", "targetContainerName": "app"}]);
    let refused = world.review("/validate", &request).await;
    assert!(message(&refused).starts_with("[AI502]"), "{refused}");
    let unexpected = world.review("/mutate", &request).await;
    assert_eq!((&unexpected["allowed"], &unexpected["status"]["code"]), (&json!(false), &json!(400)));
}

#[tokio::test]
async fn what_nobody_registered_for_is_refused_and_counted() {
    let world = World::with_agent();
    let edits: [fn(&mut Value); 5] = [
        |r| r["operation"] = json!("DELETE"),
        |r| r["operation"] = json!("UPDATE"),
        |r| r["subResource"] = json!("binding"),
        |r| r["resource"]["resource"] = json!("secrets"),
        |r| r["resource"]["group"] = json!("example.com"),
    ];
    for edit in edits {
        let mut request = create(&pod());
        edit(&mut request);
        let refused = world.review("/validate", &request).await;
        assert_eq!(refused["allowed"], false);
        assert!(message(&refused).contains("creation of pods"), "{refused}");
    }
    assert!(
        world.counted(r#"deputy_admission_decode_errors_total{webhook="validate",error="unexpected"} 5"#)
    );
}

#[tokio::test]
async fn a_body_that_is_no_review_gets_a_clear_answer() {
    let world = World::with_agent();
    let whole =
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": create(&pod())});
    let whole = whole.to_string();
    for body in ["", "{", "null", "[]", "no json", &whole[..whole.len() - 2]] {
        let (status, text) = world.send("/mutate", body.to_owned()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(std::str::from_utf8(&text).unwrap().contains("AdmissionReview"), "{text:?}");
    }
    let (status, _) = world.send("/mutate", r#"{"apiVersion":"v1","kind":"Pod"}"#).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(world.counted(r#"deputy_admission_decode_errors_total{webhook="mutate",error="malformed"} 6"#));
    assert!(world.counted(r#"deputy_admission_decode_errors_total{webhook="mutate",error="wrong_kind"} 1"#));

    // With a uid, the API server can show the reason to the person who asked.
    let other = whole.replace("admission.k8s.io/v1", "admission.k8s.io/v2");
    let (status, body) = world.send("/validate", other).await;
    assert_eq!((status, &response(&body)["allowed"]), (StatusCode::OK, &json!(false)));
    let mut request = create(&pod());
    request["resource"] = json!("sk-secret");
    let refused = world.review("/validate", &request).await;
    assert_eq!((&refused["uid"], &refused["status"]["code"]), (&json!("u"), &json!(400)));
    assert!(!message(&refused).contains("secret"), "{refused}");
}

#[tokio::test]
async fn a_pod_of_another_shape_is_refused() {
    let world = World::with_agent();
    for object in
        [Value::Null, json!([]), json!({"metadata": {"labels": {"deputy.dev/agent": 7}}, "spec": {}})]
    {
        let refused = world.review("/validate", &create(&object)).await;
        assert_eq!(
            (&refused["allowed"], &refused["status"]["code"]),
            (&json!(false), &json!(400)),
            "{object}"
        );
    }
}

#[tokio::test]
async fn eight_mebibytes_are_read_and_not_a_byte_more() {
    let world = World::with_agent();
    let limit = Limits::default().body_bytes;
    let padded = |length: usize| {
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": create(&pod())});
        let mut review = review.to_string();
        review.extend(std::iter::repeat_n(' ', length - review.len()));
        review
    };
    let (status, body) = world.send("/validate", padded(limit)).await;
    assert_eq!((status, &response(&body)["uid"]), (StatusCode::OK, &json!("u")));

    let announced = Request::post("/validate")
        .header("content-type", "application/json")
        .header("content-length", limit + 1)
        .body(Body::empty());
    let (status, text) = send(&world.router, announced.unwrap()).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(std::str::from_utf8(&text).unwrap().contains("larger than 8388608 bytes"));

    let whole = padded(limit + 1);
    let chunks =
        whole.as_bytes().chunks(1 << 20).map(|chunk| Ok::<_, Infallible>(Bytes::copy_from_slice(chunk)));
    let chunks: Vec<_> = chunks.collect();
    let (status, _) = world.send("/validate", Body::from_stream(stream::iter(chunks))).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

/// A pod of `count` environment variables, as small as one can be.
fn pod_of_many(count: usize) -> Value {
    let mut pod = pod();
    pod["spec"]["containers"][0]["env"] = vec![json!({"name": "A"}); count].into();
    pod
}

/// The clock stands still: an unoptimised parser on a busy machine takes longer than the world stays fresh.
#[tokio::test(start_paused = true)]
async fn what_would_grow_too_large_in_memory_is_refused_with_the_reason() {
    let world = World::with_agent();
    for path in ["/mutate", "/validate"] {
        let refused = world.review(path, &create(&pod_of_many(230_000))).await;
        assert_eq!((&refused["uid"], &refused["allowed"]), (&json!("u"), &json!(false)), "{path}");
        assert!(message(&refused).contains("too large to be judged"), "{refused}");
    }
    assert!(
        world.counted(r#"deputy_admission_decode_errors_total{webhook="mutate",error="body_too_large"} 1"#)
    );
    assert_eq!(world.review("/mutate", &create(&pod_of_many(10_000))).await["allowed"], true);
}

#[tokio::test(start_paused = true)]
async fn reviews_that_wait_leave_room_for_others() {
    let world = World::new(Limits { reviews_bytes: 64 << 20, waiting_bytes: 32 << 20, ..Limits::default() });
    let started = Instant::now();
    // Each takes about 20 MiB: the first waits, the second may not.
    let timed = || async {
        let refused = world.review("/mutate", &create(&pod_of_many(10_000))).await;
        assert!(message(&refused).starts_with("[AI001]"), "{refused}");
        started.elapsed()
    };
    let (first, second) = tokio::join!(timed(), timed());
    assert_eq!((first, second), (Duration::from_secs(2), Duration::ZERO));
}

#[tokio::test]
async fn only_json_is_read() {
    let world = World::with_agent();
    for content_type in [None, Some("application/yaml"), Some("text/plain")] {
        let mut request = Request::post("/validate");
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let (status, _) = send(&world.router, request.body(Body::from("{}")).unwrap()).await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{content_type:?}");
    }
    let (status, _) = send(&world.router, Request::get("/validate").body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    let (status, _) = world.send("/other", "{}").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_given_up_on() {
    let world = World::with_agent();
    let started = Instant::now();
    let (status, _) =
        world.send("/validate", Body::from_stream(stream::pending::<Result<Bytes, Infallible>>())).await;
    assert_eq!((status, started.elapsed()), (StatusCode::REQUEST_TIMEOUT, Limits::default().body_time));
}

#[tokio::test(start_paused = true)]
async fn bodies_beyond_the_budget_are_turned_away() {
    let world = World::with_agent();
    let announced = |body: Body| async {
        let length = Limits::default().body_bytes;
        let request = Request::post("/validate").header("content-type", "application/json");
        send(&world.router, request.header("content-length", length).body(body).unwrap()).await.0
    };
    // What announces much and sends little holds little, however many there are of it.
    let silent = || announced(Body::from_stream(stream::pending::<Result<Bytes, Infallible>>()));
    let served = async {
        let mut request = create(&pod());
        request["object"]["metadata"]["annotations"] = json!({"large": "x".repeat(1 << 20)});
        assert_eq!(world.review("/validate", &request).await["uid"], "u");
    };
    let (silent, ()) = tokio::join!(futures::future::join_all((0..40).map(|_| silent())), served);
    assert!(silent.iter().all(|status| *status == StatusCode::REQUEST_TIMEOUT), "{silent:?}");

    // What has arrived is held: of three bodies that stop short of their end, two have room together.
    let stuck = || {
        let most = Bytes::from(vec![b' '; Limits::default().body_bytes - 1]);
        let first = stream::iter([Ok::<_, Infallible>(most)]);
        announced(Body::from_stream(first.chain(stream::pending())))
    };
    let (a, b, c) = tokio::join!(stuck(), stuck(), stuck());
    let mut statuses = [a, b, c];
    statuses.sort();
    assert_eq!(
        statuses,
        [StatusCode::REQUEST_TIMEOUT, StatusCode::REQUEST_TIMEOUT, StatusCode::SERVICE_UNAVAILABLE]
    );
    assert_eq!(world.review("/validate", &create(&pod())).await["uid"], "u");
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_for_its_identity_and_for_its_account() {
    let mut world = World::new(Limits::default());
    let (router, started) = (world.router.clone(), Instant::now());
    let review =
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": create(&pod())});
    let request = Request::post("/mutate").header("content-type", "application/json");
    let request = request.body(Body::from(review.to_string())).unwrap();
    let arrive = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(world.counted("deputy_admission_waiting_reviews 1"));
        world.declare();
        tokio::time::sleep(Duration::from_millis(700)).await;
        world.give_account();
    };
    let ((_, body), ()) = tokio::join!(send(&router, request), arrive);
    assert_eq!(response(&body)["allowed"], true);
    assert_eq!(patched(&pod(), &response(&body))["spec"]["serviceAccountName"], "agent.a");
    assert_eq!(started.elapsed(), Duration::from_secs(1));
    assert!(world.counted("deputy_admission_waiting_reviews 0"));
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_it_is_refused_with_the_reason() {
    let world = World::new(Limits::default());
    let started = Instant::now();
    let refused = world.review("/mutate", &create(&pod())).await;
    assert_eq!((&refused["allowed"], started.elapsed()), (&json!(false), Duration::from_secs(2)));
    assert!(message(&refused).starts_with("[AI001]"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_permitted_on_a_view_that_is_too_old() {
    let world = World::with_agent();
    let create = create(&pod());
    assert_eq!(world.review("/mutate", &create).await["allowed"], true);
    tokio::time::sleep(Duration::from_secs(11)).await;
    let refused = world.review("/mutate", &create).await;
    assert_eq!((&refused["allowed"], &refused["status"]["code"]), (&json!(false), &json!(503)));
    assert!(
        message(&refused).contains("its view of the cluster is 11 s old, and may be 10 s old"),
        "{refused}"
    );
    assert!(world.counted(r#"deputy_admission_reviews_total{webhook="mutate",verdict="stale"} 1"#));
    // A denial needs no fresh view.
    let denied = world.review("/validate", &create).await;
    assert_eq!(denied["status"]["code"], 403, "{denied}");
    world.freshness.send_replace(proved_now());
    assert_eq!(world.review("/mutate", &create).await["allowed"], true);

    world.freshness.send_replace(Freshness::unproved(Duration::from_secs(10)));
    assert!(message(&world.review("/mutate", &create).await).contains("has not proved yet"));
}

#[tokio::test(start_paused = true)]
async fn the_validating_side_waits_for_what_another_replica_saw_first() {
    let mut ahead = World::with_agent();
    let pod = patched(&pod(), &ahead.review("/mutate", &create(&pod())).await);
    ahead = World::new(Limits::default());
    ahead.declare();
    let (router, started) = (ahead.router.clone(), Instant::now());
    let review =
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": create(&pod)});
    let request = Request::post("/validate").header("content-type", "application/json");
    let request = request.body(Body::from(review.to_string())).unwrap();
    let arrive = async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        ahead.give_account();
    };
    let ((_, body), ()) = tokio::join!(send(&router, request), arrive);
    assert_eq!(response(&body)["allowed"], true, "{body:?}");
    assert_eq!(started.elapsed(), Duration::from_millis(5));
}

#[tokio::test(start_paused = true)]
async fn no_more_wait_than_there_are_places() {
    let weight = 64 << 10;
    let world = World::new(Limits { waiting_bytes: weight, ..Limits::default() });
    let started = Instant::now();
    let timed = || async {
        let refused = world.review("/mutate", &create(&pod())).await;
        assert!(message(&refused).starts_with("[AI001]"), "{refused}");
        started.elapsed()
    };
    let (first, second) = tokio::join!(timed(), timed());
    assert_eq!((first, second), (Duration::from_secs(2), Duration::ZERO));
}

/// A request to create a workload with this template.
fn workload(kind: &str, path: &[&str], template: &Value) -> Value {
    let mut object = template.clone();
    for key in path.iter().rev() {
        object = json!({ *key: object });
    }
    let group = match kind {
        "CronJob" => "batch",
        "PodTemplate" => "",
        _ => "apps",
    };
    object["apiVersion"] = if group.is_empty() { json!("v1") } else { json!(format!("{group}/v1")) };
    object["kind"] = json!(kind);
    object["metadata"] = json!({"name": "w", "namespace": "ns"});
    let mut request = create(&object);
    request["resource"] = json!({"group": group, "version": "v1", "resource": "any"});
    request
}

/// What a template leads to is told to whoever writes it, and refused to nobody.
#[tokio::test(start_paused = true)]
async fn a_template_is_warned_of_as_the_pod_it_becomes() {
    let mut world = World::with_agent();
    let mut template = json!({"metadata": {"labels": {"deputy.dev/agent": "a"}},
        "spec": {"containers": [{"name": "app", "image": "example.com/a:1"}]}});
    let warnings = async |world: &World, request: &Value| {
        let response = world.review("/warn", request).await;
        assert_eq!(response["allowed"], true, "{response}");
        response["warnings"].as_array().cloned().unwrap_or_default()
    };
    let kinds = [
        ("Deployment", &["spec", "template"][..]),
        ("CronJob", &["spec", "jobTemplate", "spec", "template"]),
        ("PodTemplate", &["template"]),
    ];
    for (kind, path) in kinds {
        assert_eq!(warnings(&world, &workload(kind, path, &template)).await, [json!(null); 0]);
    }
    template["spec"]["containers"][0]["envFrom"] = json!([{"secretRef": {"name": "s"}}]);
    for (kind, path) in kinds {
        let said = warnings(&world, &workload(kind, path, &template)).await;
        let place = format!("[AI201] {}.spec.containers[0].envFrom[0]", path.join("."));
        assert!(said[0].as_str().unwrap().starts_with(&place), "{said:?}");
    }
    let of_account =
        json!({"spec": {"serviceAccountName": "agent.a", "containers": [{"name": "app", "image": "x"}]}});
    assert_eq!(warnings(&world, &workload("Deployment", kinds[0].1, &of_account)).await, [json!(null); 0]);

    // An exception that ends soon is told, with what it lets pass.
    let exception = |days: i64| {
        let ends = NOW + k8s_openapi::jiff::SignedDuration::from_hours(24 * days);
        json!({"apiVersion": "deputy.dev/v1alpha1", "kind": "AgentException", "metadata": {"name": "e", "uid": "e"},
            "spec": {"agentRef": {"namespace": "ns", "name": "a"}, "rules": ["AI201"], "effect": "Warn",
                "reason": "r", "expirationTime": ends.to_string()}})
    };
    for (days, notice) in [(13, true), (15, false)] {
        world.index.apply_exception(Observed::Object(serde_json::from_value(exception(days)).unwrap()));
        world.snapshots.send_replace(world.index.snapshot());
        let said = warnings(&world, &workload("Deployment", kinds[0].1, &template)).await;
        let said = said[0].as_str().unwrap();
        assert!(said.contains("only warned of by AgentException \"e\""), "{said}");
        assert_eq!(said.contains("it ends in 13 days"), notice, "{said}");
    }

    // The API server's record says by which exception a pod passed.
    let mut with_secret = patched(&pod(), &world.review("/mutate", &create(&pod())).await);
    with_secret["spec"]["containers"][0]["envFrom"] = json!([{"secretRef": {"name": "s"}}]);
    let passed = world.review("/validate", &create(&with_secret)).await;
    assert_eq!((&passed["allowed"], &passed["auditAnnotations"]["exceptions"]), (&json!(true), &json!("e")));

    // One that is nobody's, one whose agent is not there, and one that cannot be read.
    template["metadata"]["labels"] = json!({});
    assert_eq!(warnings(&world, &workload("Deployment", kinds[0].1, &template)).await, [json!(null); 0]);
    template["metadata"]["labels"] = json!({"deputy.dev/agent": "b"});
    let since = Instant::now();
    let said = warnings(&world, &workload("Deployment", kinds[0].1, &template)).await;
    assert!(said[0].as_str().unwrap().starts_with("[AI001] spec.template.metadata.labels"), "{said:?}");
    assert!(
        since.elapsed() < Duration::from_secs(2),
        "the API server had given up after {:?}",
        since.elapsed()
    );
    template["spec"] = json!(7);
    assert_eq!(warnings(&world, &workload("Deployment", kinds[0].1, &template)).await, [json!(null); 0]);
    assert_eq!(warnings(&world, &create(&pod())).await, [json!(null); 0]);

    // On a view too old to permit, a warning is as good as ever.
    world.freshness.send_replace(Prover::<()>::new(Duration::from_secs(10)).freshness());
    template["spec"] = json!({"containers": [{"name": "app", "image": "x"}]});
    assert_eq!(warnings(&world, &workload("Deployment", kinds[0].1, &template)).await.len(), 1);
    // One that is not even a review refuses nobody, if it can be told whom.
    let (_, body) =
        world.send("/warn", "{\"apiVersion\": \"x\", \"kind\": \"y\", \"request\": {\"uid\": \"u\"}}").await;
    let said = response(&body);
    assert_eq!((&said["allowed"], said["warnings"].as_array().map(Vec::len)), (&json!(true), Some(1)));
}

#[tokio::test]
async fn a_mirror_pod_passes_untouched() {
    let world = World::with_agent();
    let mut request = create(&pod());
    request["userInfo"] = json!({"username": "system:node:n1", "groups": ["system:nodes"]});
    request["object"] = json!({
        "metadata": {"name": "static-n1", "annotations": {"kubernetes.io/config.mirror": "h"},
                     "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n1"}]},
        "spec": {"hostNetwork": true, "containers": [{"name": "app", "image": "example.com/a:1"}]}});
    for path in ["/mutate", "/validate"] {
        let allowed = world.review(path, &request).await;
        assert_eq!(allowed, json!({"uid": "u", "allowed": true, "auditAnnotations": {"mirror": "true"}}));
    }
    request["userInfo"] = json!({"username": "dana", "groups": ["system:authenticated"]});
    assert_eq!(world.review("/validate", &request).await["allowed"], false);
}

#[tokio::test]
async fn warnings_are_short() {
    let world = World::with_agent();
    let mut pod = pod();
    pod["spec"]["imagePullSecrets"] =
        (0..20).map(|at| json!({"name": format!("{at}-{}", "s".repeat(240))})).collect();
    let allowed = world.review("/mutate", &create(&pod)).await;
    let warnings = allowed["warnings"].as_array().unwrap();
    assert!((1..=16).contains(&warnings.len()), "{allowed}");
    assert!(warnings.iter().all(|w| w.as_str().unwrap().len() <= 256), "{allowed}");
    assert_eq!(allowed["auditAnnotations"]["rules"], "AI203");
}
