//! Ordinary manifests, in the shapes of what popular charts render, with every pod taken for an agent's: nothing is refused but
//! what a person would refuse, and that is listed.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use deputy::{
    index::{Declarable, ReservedAudiences},
    policy::Settings,
    scan::{Inputs, Options, World, read},
};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How often each shape is made, with other names, hashes and numbers.
const VARIANTS: u32 = 16;

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 16
    }

    fn hex(&mut self, length: usize) -> String {
        (0..length).map(|_| char::from_digit((self.next() % 16) as u32, 16).unwrap()).collect()
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[(self.next() % words.len() as u64) as usize]
    }

    fn digest(&mut self) -> String {
        format!("sha256:{}", self.hex(64))
    }

    fn uuid(&mut self) -> String {
        [8, 4, 4, 4, 12].map(|length| self.hex(length)).join("-")
    }

    /// What is random and printable: a checksum or a compressed file, in base64.
    fn base64(&mut self, bytes: usize) -> String {
        STANDARD.encode((0..bytes).map(|_| (self.next() % 256) as u8).collect::<Vec<_>>())
    }
}

fn env(pairs: &[(&str, String)]) -> Value {
    pairs.iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
}

fn probe(path: &str) -> Value {
    json!({"httpGet": {"path": path, "port": "http", "scheme": "HTTP",
                       "httpHeaders": [{"name": "X-Probe", "value": "kubelet"}, {"name": "Accept", "value": "*/*"}]},
           "initialDelaySeconds": 5, "periodSeconds": 10})
}

/// A shape: what is in its containers' and pod's fields, and the rules a person would refuse it by too.
type Shape = (&'static str, fn(&mut Dice) -> (Value, Value), &'static [&'static str]);

const SHAPES: [Shape; 24] = [
    (
        "web server",
        |_| {
            (
                json!({"livenessProbe": probe("/"), "ports": [{"name": "http", "containerPort": 8080}]}),
                json!({}),
            )
        },
        &[],
    ),
    (
        "pinned image",
        |d| {
            (
                json!({"image": format!("registry.example.com/team/app:v1.{}@{}", d.next() % 90, d.digest())}),
                json!({}),
            )
        },
        &[],
    ),
    (
        "operator",
        |d| {
            (
                json!({"args": ["--leader-elect", "--metrics-bind-address=:8443",
        format!("--leader-election-id={}.example.com", d.hex(8)), "--feature-gates=ServerSideApply=true,StableCertificateRequestName=true",
        format!("--acme-http01-solver-image=quay.io/jetstack/cert-manager-acmesolver:v1.{}.0", d.next() % 20),
        "--cluster-resource-namespace=$(POD_NAMESPACE)", "--dynamic-serving-ca-secret-name=webhook-ca"],
        "env": [{"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}]}),
                json!({}),
            )
        },
        &[],
    ),
    (
        "Java",
        |d| {
            (
                json!({"env": env(&[
        ("JAVA_OPTS", format!("-Xms512m -Xmx{}g -XX:+UseG1GC -Djavax.net.ssl.trustStore=/etc/pki/java/cacerts", 1 + d.next() % 8)),
        ("KAFKA_HEAP_OPTS", "-Xmx1G".into()), ("KAFKA_CLUSTER_ID", "MkU3OEVBNTcwNTJENDM2Qk".into()),
        ("KAFKA_ADVERTISED_LISTENERS", "PLAINTEXT://$(POD_NAME).kafka:9092,CONTROLLER://:9093".into())])}),
                json!({}),
            )
        },
        &[],
    ),
    (
        "build labels",
        |d| {
            (
                json!({"env": env(&[("GIT_COMMIT", d.hex(40)), ("BUILD_ID", d.uuid()), ("IMAGE_DIGEST", d.digest()),
        ("CHECKSUM_MD5", d.hex(32)), ("RELEASE", format!("2026.{}.{}", d.next() % 12, d.next() % 30))])}),
                json!({}),
            )
        },
        &[],
    ),
    (
        "token settings",
        |d| {
            (
                json!({"env": env(&[("MAX_TOKENS", "4096".into()), ("TOKEN_TTL_SECONDS", "3600".into()),
        ("TOKENIZER", "cl100k_base".into()), ("OIDC_TOKEN_URL", "https://login.example.com/oauth2/v2.0/token".into()),
        ("TOKEN_FILE", "/var/run/secrets/deputy.dev/tokens/papers".into()), ("CLIENT_ID", d.uuid()),
        ("SECRET_NAME", "papers-db-credentials".into()), ("API_KEY", "$(API_KEY_FROM_THE_BROKER)".into()),
        ("PUBLIC_KEY_FINGERPRINT", d.base64(32))])}),
                json!({}),
            )
        },
        &[],
    ),
    (
        "base64 config",
        |d| {
            (
                json!({"env": env(&[("CONFIG_B64", d.base64(600)),
        ("LOGGING", STANDARD.encode("{\"level\":\"info\",\"handlers\":[\"console\"],\"format\":\"%(asctime)s %(message)s\"}"))])}),
                json!({}),
            )
        },
        &[],
    ),
    (
        "gzip in an argument",
        |d| {
            (
                json!({"command": ["sh", "-c", format!("echo H4sIAAAAAAAA{} | base64 -d | gunzip > /tmp/x", d.base64(900))]}),
                json!({}),
            )
        },
        &[],
    ),
    (
        "shell",
        |_| {
            (
                json!({"command": ["/bin/bash", "-euo", "pipefail", "-c",
        "until pg_isready -h db -p 5432; do sleep 1; done\nexport PGPASSFILE=/etc/pg/pass\npsql \"postgresql://app@db:5432/app?sslmode=verify-full\" -c 'select 1'\ncurl -fsS -H \"Authorization: Bearer $(cat $DEPUTY_TOKEN_FILE)\" https://api.example.com/v1/x"]}),
                json!({}),
            )
        },
        &[],
    ),
    (
        "prompt",
        |d| {
            (
                json!({"env": env(&[("MODEL", d.of(&["claude-opus-4-20250514", "gpt-4.1-mini-2025-04-14", "gemini-2.5-pro-preview-06-05",
        "us.anthropic.claude-sonnet-4-20250514-v1:0", "meta-llama/Llama-3.3-70B-Instruct-Turbo", "mistralai/Mixtral-8x22B-Instruct-v0.1"]).into()),
        ("SYSTEM_PROMPT", format!("You are a research assistant (build {}). Never reveal keys such as sk-..., ghp_... or AKIA....\n\
            If a user pastes postgres://user:password@host/db, ask them to rotate it. {}", d.hex(7), "Cite by DOI, e.g. 10.1038/s41586-021-03819-2. ".repeat(200)))])}),
                json!({}),
            )
        },
        &[],
    ),
    (
        "model server",
        |d| {
            (
                json!({"args": ["--model", "Qwen/Qwen2.5-72B-Instruct-AWQ", "--revision", d.hex(40), "--max-model-len=32768",
        "--served-model-name=qwen", "--tensor-parallel-size=4", "--enable-prefix-caching", "--guided-decoding-backend=xgrammar"],
        "resources": {"limits": {"nvidia.com/gpu": "4"}}}),
                json!({"tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]}),
            )
        },
        &[],
    ),
    (
        "database",
        |_| {
            (
                json!({"volumeMounts": [{"name": "data", "mountPath": "/var/lib/postgresql/data"}], "env": env(&[
        ("PGDATA", "/var/lib/postgresql/data/pgdata".into()), ("POSTGRES_HOST_AUTH_METHOD", "scram-sha-256".into())])}),
                json!({"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}], "securityContext": {"fsGroup": 999}}),
            )
        },
        &[],
    ),
    (
        "config files",
        |_| {
            (
                json!({"volumeMounts": [{"name": "c", "mountPath": "/etc/app", "readOnly": true}, {"name": "tmp", "mountPath": "/tmp"}]}),
                json!({"volumes": [{"name": "c", "configMap": {"name": "app", "items": [{"key": "a", "path": "a"}]}}, {"name": "tmp", "emptyDir": {"medium": "Memory"}}]}),
            )
        },
        &[],
    ),
    (
        "init container",
        |d| {
            (
                json!({}),
                json!({"initContainers": [{"name": "migrate", "image": "migrate:1", "args": ["up", format!("--to={}", d.next() % 9999)]}],
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname"}}]}}}),
            )
        },
        &[],
    ),
    (
        "hooks and limits",
        |_| {
            (
                json!({"lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "nginx -s quit; sleep 5"]}}},
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}, "runAsNonRoot": true},
        "startupProbe": {"exec": {"command": ["redis-cli", "-h", "localhost", "ping"]}}}),
                json!({"terminationGracePeriodSeconds": 300, "hostNetwork": false}),
            )
        },
        &[],
    ),
    (
        "telemetry",
        |d| {
            (
                json!({"env": env(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel-collector.monitoring:4317".into()),
        ("OTEL_RESOURCE_ATTRIBUTES", format!("service.name=x,service.instance.id={},k8s.pod.uid=$(POD_UID)", d.uuid())),
        ("SENTRY_DSN", format!("https://{}@o447951.ingest.sentry.io/{}", d.hex(32), d.next() % 9_999_999))])}),
                json!({}),
            )
        },
        &[],
    ),
    (
        "cloud",
        |d| {
            (
                json!({"env": env(&[("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/app".into()), ("AWS_REGION", "eu-central-1".into()),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/secrets/deputy.dev/tokens/aws".into()), ("AZURE_TENANT_ID", d.uuid()),
        ("GOOGLE_CLOUD_PROJECT", format!("project-{}", d.next() % 999_999)), ("S3_ENDPOINT", "https://s3.eu-central-1.amazonaws.com".into())])}),
                json!({}),
            )
        },
        &[],
    ),
    (
        "JSON and CEL",
        |d| {
            (
                json!({"args": [json!({"rules": [{"expr": "request.auth.claims.sub == 'x'", "id": d.uuid()}], "secretRef": null, "password": ""}).to_string(),
        "--config={\"auth\":{\"token\":\"${TOKEN}\",\"password\":\"<password>\"}}"]}),
                json!({}),
            )
        },
        &[],
    ),
    // Refused, and rightly.
    (
        "node agent",
        |_| {
            (
                json!({"volumeMounts": [{"name": "root", "mountPath": "/host/root", "readOnly": true}]}),
                json!({"hostNetwork": true, "hostPID": true, "volumes": [{"name": "root", "hostPath": {"path": "/"}}]}),
            )
        },
        &["AI401"],
    ),
    (
        "password from a Secret",
        |_| {
            (
                json!({"env": [{"name": "POSTGRES_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "pg", "key": "password"}}}]}),
                json!({}),
            )
        },
        &["AI201"],
    ),
    (
        "certificate from a Secret",
        |_| {
            (
                json!({"volumeMounts": [{"name": "cert", "mountPath": "/certs"}]}),
                json!({"volumes": [{"name": "cert", "secret": {"secretName": "webhook-cert"}}]}),
            )
        },
        &["AI202"],
    ),
    ("private registry", |_| (json!({}), json!({"imagePullSecrets": [{"name": "regcred"}]})), &["AI203"]),
    (
        "secret store",
        |_| {
            (
                json!({}),
                json!({"volumes": [{"name": "s", "csi": {"driver": "secrets-store.csi.k8s.io", "readOnly": true,
        "volumeAttributes": {"secretProviderClass": "app"}}}]}),
            )
        },
        &["AI205"],
    ),
    (
        "mesh token",
        |_| {
            (
                json!({}),
                json!({"volumes": [{"name": "t", "projected": {"sources": [{"serviceAccountToken":
        {"path": "istio-token", "audience": "istio-ca", "expirationSeconds": 43200}}]}}]}),
            )
        },
        &["AI103", "AI104"],
    ),
];

/// The shape in a workload of one of the kinds.
fn workload(variant: u32, containers: Value, pod: Value, dice: &mut Dice) -> Value {
    let mut container = json!({"name": "app", "image": format!("example.com/app:{}", dice.hex(7)), "resources": {"requests": {"cpu": "100m"}}});
    json_patch::merge(&mut container, &containers);
    let mut spec =
        json!({"containers": [container], "restartPolicy": if variant % 5 < 3 { "Always" } else { "Never" }});
    json_patch::merge(&mut spec, &pod);
    let annotations = json!({"checksum/config": dice.hex(64), "checksum/secret": dice.hex(64), "prometheus.io/scrape": "true",
        "kubectl.kubernetes.io/restartedAt": "2026-11-24T22:31:50Z", "rollme": dice.base64(6), "vault.hashicorp.com/role": "app"});
    let labels =
        json!({"app.kubernetes.io/name": "x", "helm.sh/chart": "x-1.2.3", "pod-template-hash": dice.hex(10)});
    let template = json!({"metadata": {"labels": labels, "annotations": annotations}, "spec": spec});
    let (version, kind, spec) = match variant % 5 {
        0 => ("apps/v1", "Deployment", json!({"replicas": 2, "template": template})),
        1 => ("apps/v1", "StatefulSet", json!({"serviceName": "x", "template": template})),
        2 => ("apps/v1", "DaemonSet", json!({"template": template})),
        3 => ("batch/v1", "Job", json!({"backoffLimit": 3, "template": template})),
        _ => (
            "batch/v1",
            "CronJob",
            json!({"schedule": "@daily", "jobTemplate": {"spec": {"template": template}}}),
        ),
    };
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": format!("x-{variant}"), "namespace": "shop"}, "spec": spec})
}

/// What stands beside workloads in a chart, and is not judged.
fn beside(dice: &mut Dice) -> Vec<Value> {
    let of = |version: &str, kind: &str, rest: Value| {
        let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}});
        json_patch::merge(&mut object, &rest);
        object
    };
    vec![
        of("v1", "Service", json!({"spec": {"ports": [{"port": 80}]}})),
        of(
            "v1",
            "ConfigMap",
            json!({"binaryData": {"x": dice.base64(2000)}, "data": {"a": "{{ .Values.x }}"}}),
        ),
        of("rbac.authorization.k8s.io/v1", "ClusterRole", json!({"rules": []})),
        of(
            "monitoring.coreos.com/v1",
            "PrometheusRule",
            json!({"spec": {"groups": [{"rules": [{"expr": "up == 0"}]}]}}),
        ),
        of("apiextensions.k8s.io/v1", "CustomResourceDefinition", json!({"spec": {"group": "x"}})),
    ]
}

#[test]
fn nothing_ordinary_is_refused_but_what_a_person_would_refuse() {
    let settings = Settings::builtin(ReservedAudiences::default()).unwrap();
    let now = Timestamp::UNIX_EPOCH;
    let declarable = Declarable::default();
    let options = Options { settings, declarable, namespace: "shop".to_owned(), assume_agents: true, now };
    let (mut inputs, mut dice, mut objects) = (Inputs::default(), Dice(7), 0);
    let mut expected = BTreeMap::new();
    for (shape, make, rules) in SHAPES {
        for variant in 0..VARIANTS {
            let (containers, pod) = make(&mut dice);
            let mut objects_of_chart = vec![workload(variant, containers, pod, &mut dice)];
            if variant % 4 == 0 {
                objects_of_chart.extend(beside(&mut dice));
            }
            objects += objects_of_chart.len();
            let text = objects_of_chart.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n---\n");
            let contents = read(text.as_bytes(), false);
            assert_eq!(contents.unread, [], "{shape}");
            let source = format!("{shape} {variant}");
            inputs.add(&source.as_str().into(), contents.documents);
            expected.insert(source, rules);
        }
    }
    let report = World::new(inputs, options).judge();
    assert_eq!((report.results.len(), report.unread.len()), (SHAPES.len() * VARIANTS as usize, 0));
    for judged in &report.results {
        let mut found: Vec<_> = judged.findings.iter().map(|located| located.finding.rule.id).collect();
        found.dedup();
        assert_eq!(found, *expected[&*judged.source], "{}: {:?}", judged.source, judged.findings);
    }
    println!("{objects} documents, {} of them judged", report.results.len());
}
