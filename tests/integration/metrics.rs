//! What `/metrics` shows is Prometheus' text format, by the rules `promtool check metrics` has.

use axum::{
    body::{Body, to_bytes},
    http::{Request, StatusCode},
};
use deputy::{
    metrics::{
        AdmissionMetrics, BrokerMetrics, CertificateMetrics, ControllerMetrics, DecodeError, Effect,
        IndexMetrics, Metrics, Pass, RecordMetrics, Role, Verdict, Webhook,
    },
    runtime::admin::{self, Check},
};
use k8s_openapi::jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::sync::watch;
use tower::ServiceExt as _;

fn webhook() -> Metrics {
    let mut metrics = Metrics::new(Role::Webhook);
    let admission = AdmissionMetrics::register(&mut metrics);
    admission.reviewed(Webhook::Validate, Verdict::Denied, Duration::from_millis(3));
    admission.unreadable(Webhook::Mutate, DecodeError::Malformed);
    admission.violation("AI201", Effect::Deny);
    admission.excepted("AI401", Pass::Allow);
    IndexMetrics::register(&mut metrics).watch_failed("agentidentities");
    CertificateMetrics::register(&mut metrics).in_use("serving", Timestamp::UNIX_EPOCH);
    metrics
}

fn broker() -> Metrics {
    let mut metrics = Metrics::new(Role::Broker);
    let broker = BrokerMetrics::register(&mut metrics);
    broker.exchanges.permitted(Duration::from_millis(2));
    broker.exchanges.denied("agent_half", Some("agent"), Duration::from_millis(1));
    broker.exchanges.denied("media_type", None, Duration::from_millis(1));
    broker.evaluations.denied("user_half", Some("user"), Duration::from_millis(1));
    broker.dropped(3);
    broker.recorded(7);
    broker.signs_by(Timestamp::UNIX_EPOCH);
    broker.lookups("actor").looked(true);
    broker.reviewed("TokenReview", "yes");
    RecordMetrics::register(&mut metrics).synced(Duration::from_micros(300));
    metrics
}

fn controller() -> Metrics {
    let mut metrics = Metrics::new(Role::Controller);
    let controller = ControllerMetrics::register(&mut metrics);
    controller.identities("Ready", "True", 1);
    controller.reconciled("changed", Duration::from_millis(3));
    controller.exceptions("in_force", 2);
    controller.next_exception_ends(Some(Timestamp::UNIX_EPOCH));
    controller.wrote("patch", "serviceaccounts");
    controller.ended_pod("suspension", "evicted");
    IndexMetrics::register(&mut metrics).advanced(1, Timestamp::UNIX_EPOCH);
    metrics
}

/// Type and help of each family; fails on a sample of no family, or one that its family's type cannot have.
fn families(text: &str) -> BTreeMap<String, String> {
    let (mut types, mut helps) = (BTreeMap::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|l| l.split_once(' ')) {
            assert!(!help.is_empty() && helps.insert(name.to_owned()), "{line}");
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' ')) {
            assert!(helps.contains(name), "{name} has no help before its type");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
        } else {
            let name = line.split(['{', ' ']).next().unwrap();
            let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let family = histogram.filter(|family| types.get(*family).is_some_and(|t| t == "histogram"));
            let family = family.unwrap_or(name);
            assert!(types.contains_key(family), "{line}: no such family");
            assert_ne!(types[family] == "histogram", family == name, "{line}");
            line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        }
    }
    types
}

#[test]
fn every_metric_is_well_formed_and_ours() {
    for metrics in [webhook(), controller(), broker()] {
        let text = metrics.render().unwrap();
        for (name, kind) in families(&text) {
            assert!(name.starts_with("deputy_"), "{name}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            assert_eq!(kind == "histogram", name.ends_with("_duration_seconds"), "{name} is a {kind}");
        }
        assert!(text.ends_with('\n') && !text.contains("# EOF") && !text.contains("# UNIT"));
    }
}

#[test]
fn a_role_shows_what_it_does() {
    let webhook = webhook().render().unwrap();
    for sample in [
        r#"deputy_admission_reviews_total{webhook="validate",verdict="denied"} 1"#,
        r#"deputy_admission_reviews_total{webhook="mutate",verdict="denied"} 0"#,
        r#"deputy_admission_violations_total{rule="AI201",action="deny"} 1"#,
        r#"deputy_admission_exception_uses_total{rule="AI401",effect="allow"} 1"#,
        r#"deputy_admission_decode_errors_total{webhook="mutate",error="malformed"} 1"#,
        r#"deputy_admission_review_duration_seconds_bucket{le="0.005",webhook="validate"} 1"#,
        r#"deputy_watch_errors_total{resource="agentidentities"} 1"#,
        r#"deputy_certificate_expiry_timestamp_seconds{certificate="serving"} 0"#,
    ] {
        assert!(webhook.lines().any(|line| line == sample), "{sample} in\n{webhook}");
    }
    let controller = controller().render().unwrap();
    for sample in [
        r#"deputy_identities{condition="Ready",status="True"} 1"#,
        r#"deputy_reconciles_total{result="changed"} 1"#,
        r#"deputy_api_writes_total{verb="patch",resource="serviceaccounts"} 1"#,
        r#"deputy_pods_ended_total{cause="suspension",way="evicted"} 1"#,
        "deputy_index_version 1",
        r#"deputy_exceptions{state="in_force"} 2"#,
        "deputy_exception_next_end_timestamp_seconds 0",
    ] {
        assert!(controller.lines().any(|line| line == sample), "{sample} in\n{controller}");
    }
}

#[tokio::test]
async fn a_process_is_ready_once_every_check_has_passed() {
    let (listed, is_listed) = watch::channel(false);
    let (_loaded, is_loaded) = watch::channel(true);
    let checks = vec![
        Check { name: "identities listed", passed: is_listed },
        Check { name: "certificate loaded", passed: is_loaded },
    ];
    let router = admin::router(webhook(), checks);
    let get = async |path: &str| {
        let response = router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
        let status = response.status();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, content_type, String::from_utf8(body.to_vec()).unwrap())
    };
    let (status, _, text) = get("/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text, "[-]identities listed\n[+]certificate loaded\n");
    assert_eq!(get("/livez").await.0, StatusCode::OK);

    listed.send_replace(true);
    assert_eq!(get("/readyz").await.0, StatusCode::OK);
    let (status, content_type, text) = get("/metrics").await;
    assert_eq!((status, content_type.as_str()), (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8"));
    assert!(text.contains("deputy_build_info"));
}
