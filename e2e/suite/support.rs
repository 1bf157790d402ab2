//! kubectl and waiting. The suite drives the cluster as a person would, with the binary people use.

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use std::{
    env,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Image of test pods: busybox, loaded into the node by `e2e/cluster/up`.
pub const IMAGE: &str = "deputy.local/busybox:1";

/// Longer than anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a command said, and whether it succeeded.
#[derive(Debug)]
pub struct Said {
    pub ok: bool,
    pub text: String,
}

impl Said {
    /// The text of a command that must have succeeded.
    #[track_caller]
    pub fn accepted(self) -> String {
        assert!(self.ok, "refused: {}", self.text);
        self.text
    }

    /// A command that must have failed for a reason that holds `expected`.
    #[track_caller]
    pub fn refused(&self, expected: &str) {
        assert!(!self.ok, "was accepted, and should not have been: {}", self.text);
        assert!(self.text.contains(expected), "refused, but not with {expected:?}: {}", self.text);
    }
}

/// Runs a program of the cluster's with standard input.
pub fn run(program: &str, arguments: &[&str], input: &str) -> Said {
    assert!(env::var_os("KUBECONFIG").is_some(), "no cluster: run this suite with `make e2e`");
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {program}: {error}; run this suite with `make e2e`"));
    // A command that does not read its input ends without it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Said { ok: output.status.success(), text }
}

/// kubectl as the cluster's administrator.
pub fn kubectl(arguments: &[&str]) -> Said {
    run("kubectl", arguments, "")
}

/// `kubectl apply` of YAML as the cluster's administrator.
pub fn apply(yaml: &str) -> Said {
    run("kubectl", &["apply", "-f", "-"], yaml)
}

/// An object as JSON.
pub fn get(arguments: &[&str]) -> Value {
    let text = kubectl(&[&["get", "-o", "json"], arguments].concat()).accepted();
    serde_json::from_str(&text).unwrap()
}

/// Namespace of the release.
pub const SYSTEM: &str = "deputy-system";

/// The pods of a role, without those on their way out.
pub fn replicas(role: &str) -> Vec<Value> {
    let pods = get(&["-n", SYSTEM, "pods", "-l", &format!("app.kubernetes.io/component={role}")]);
    let pods = pods["items"].as_array().unwrap().iter();
    pods.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).cloned().collect()
}

/// Waits until `question` has an answer.
#[track_caller]
pub fn eventually<T>(what: &str, mut question: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// A namespace of the test's own, deleted when it ends.
pub struct Namespace(pub String);

impl Namespace {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("e2e-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        kubectl(&["create", "namespace", &name]).accepted();
        Self(name)
    }

    /// kubectl in this namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> Said {
        kubectl(&[&["-n", self.0.as_str()], arguments].concat())
    }

    /// An identity without tokens.
    pub fn agent(&self, name: &str) {
        self.identity(name, "").accepted();
        self.kubectl(&["wait", "--for=condition=Ready", &format!("agentidentity/{name}"), "--timeout=60s"])
            .accepted();
    }

    /// Applies an identity with further lines of spec.
    pub fn identity(&self, name: &str, spec: &str) -> Said {
        let namespace = &self.0;
        apply(&format!(
            "{{apiVersion: deputy.dev/v1alpha1, kind: AgentIdentity, metadata: {{name: {name:?}, namespace: {namespace}}}, \
             spec: {{owner: team@example.com{spec}}}}}"
        ))
    }

    /// A pod of an agent as YAML, with further lines of spec.
    pub fn pod(&self, name: &str, agent: &str, spec: &str) -> String {
        let namespace = &self.0;
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: {namespace}, \
             labels: {{deputy.dev/agent: {agent}}}}}, spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: app, \
             image: \"{IMAGE}\", imagePullPolicy: Never, command: [sleep, \"3600\"]}}]{spec}}}}}"
        )
    }

    /// A kubeconfig of the cluster without anybody's credential, for a token to be tried with.
    pub fn anonymous(&self) -> String {
        let view = ["config", "view", "--raw", "--minify", "--flatten", "-o", "json"];
        let mut config: Value = serde_json::from_str(&kubectl(&view).accepted()).unwrap();
        config["users"][0]["user"] = serde_json::json!({});
        let path = self.anonymous_path();
        std::fs::write(&path, config.to_string()).unwrap();
        path.display().to_string()
    }

    fn anonymous_path(&self) -> PathBuf {
        env::temp_dir().join(format!("{}-anonymous.kubeconfig", self.0))
    }

    /// Waits until a pod runs.
    pub fn runs(&self, pod: &str) {
        self.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), "--timeout=60s"]).accepted();
    }

    /// Waits until a pod has run for long enough to be kept: what has its node for two seconds or less when its agent is
    /// suspended may have slipped in.
    pub fn ages(&self, pod: &str) {
        self.runs(pod);
        eventually("the pod is old enough to be kept", || {
            let pod = get(&["-n", &self.0, "pod", pod]);
            let started = pod["status"]["startTime"].as_str()?.parse::<Timestamp>().ok()?;
            (Timestamp::now().duration_since(started).as_secs() >= 4).then_some(())
        });
    }

    /// Runs a command in the pod of the agent `a`, which an exception lets be entered meanwhile.
    pub fn inside(&self, pod: &str, command: &[&str]) -> String {
        let (_open, said) = Exception::new(self, "inside", "effect: Allow, rules: [AI501]", 600);
        said.accepted();
        eventually("the pod may be entered", || {
            let said = self.kubectl(&[&["exec", pod, "--"], command].concat());
            said.ok.then_some(said.text)
        })
    }

    /// A person who may edit this namespace, with a credential of his own.
    pub fn editor(&self, name: &str) -> User {
        let account = format!("{}:{name}", self.0);
        self.kubectl(&["create", "serviceaccount", name]).accepted();
        self.kubectl(&["create", "rolebinding", name, "--clusterrole=edit", "--serviceaccount", &account])
            .accepted();
        let token = self.kubectl(&["create", "token", name]).accepted();
        let view = ["config", "view", "--raw", "--minify", "--flatten", "-o", "json"];
        let mut config: Value = serde_json::from_str(&kubectl(&view).accepted()).unwrap();
        config["users"][0]["user"] = serde_json::json!({"token": token.trim()});
        let path = env::temp_dir().join(format!("{}-{name}.kubeconfig", self.0));
        std::fs::write(&path, config.to_string()).unwrap();
        User(path.display().to_string())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        kubectl(&["delete", "namespace", &self.0, "--wait=false"]);
        let _ = std::fs::remove_file(self.anonymous_path());
    }
}

/// An exception for the agent `a` of a namespace, deleted with the value.
pub struct Exception(pub String);

impl Exception {
    /// One that ends in so many seconds, and what was said to it.
    pub fn new(ns: &Namespace, name: &str, spec: &str, seconds: u32) -> (Self, Said) {
        let name = format!("{}-{name}", ns.0);
        let ends =
            run("date", &["-u", "-d", &format!("{seconds} seconds"), "+%Y-%m-%dT%H:%M:%SZ"], "").accepted();
        let said = apply(&format!(
            "{{apiVersion: deputy.dev/v1alpha1, kind: AgentException, metadata: {{name: {name}}}, spec: {{agentRef: \
             {{namespace: {}, name: a}}, reason: e2e, expirationTime: \"{}\", {spec}}}}}",
            ns.0,
            ends.trim()
        ));
        (Self(name), said)
    }
}

impl Drop for Exception {
    fn drop(&mut self) {
        kubectl(&["delete", "agentexception", &self.0, "--ignore-not-found"]);
    }
}

/// A person, by kubeconfig.
pub struct User(pub String);

impl User {
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Said {
        run("kubectl", &[&["--kubeconfig", self.0.as_str()], arguments].concat(), input)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Shows something measured, whether or not the test fails.
pub fn figure(text: &str) {
    // Not by a macro: those are captured.
    let _ = writeln!(std::io::stderr(), "    measured: {text}");
}
