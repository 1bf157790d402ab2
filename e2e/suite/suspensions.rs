//! The switch: what an AgentSuspension stops, and when.

use crate::support::{IMAGE, Namespace, Said, apply, eventually, figure, get, kubectl, run};
use serde_json::Value;
use std::{
    thread,
    time::{Duration, Instant},
};

/// A suspension of one agent, or of all, that ends pods or keeps them.
fn suspend(ns: &Namespace, name: &str, agent: Option<&str>, pods: &str) -> Said {
    let agent = agent.map_or_else(String::new, |agent| format!(", agentName: {agent}"));
    apply(&format!(
        "{{apiVersion: deputy.dev/v1alpha1, kind: AgentSuspension, metadata: {{name: {name}, namespace: {}}}, spec: \
         {{reason: INC-4711, pods: {pods}{agent}}}}}",
        ns.0
    ))
}

/// Asks for a token of the agent's pod `p`, as the pod's node does.
fn token(ns: &Namespace, agent: &str) -> Said {
    let pod = get(&["-n", &ns.0, "pod", "p"]);
    let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
    let node = format!("system:node:{}", text("/spec/nodeName"));
    let uid = format!("--bound-object-uid={}", text("/metadata/uid"));
    ns.kubectl(&[
        "create",
        "token",
        &format!("agent.{agent}"),
        "--audience=x.example.com",
        "--bound-object-kind=Pod",
        "--bound-object-name=p",
        &uid,
        "--as",
        &node,
        "--as-group=system:nodes",
        "--as-group=system:authenticated",
    ])
}

const TOKENS: &str = ", tokens: [{name: t, audience: x.example.com, expirationSeconds: 600}]";

#[test]
fn a_suspended_agent_gets_no_token_until_the_suspension_is_gone() {
    let ns = Namespace::new();
    ns.identity("a", TOKENS).accepted();
    apply(&ns.pod("p", "a", "")).accepted();
    ns.ages("p");
    token(&ns, "a").accepted();
    suspend(&ns, "another", Some("b"), "Retain").accepted();
    token(&ns, "a").accepted();

    suspend(&ns, "one", Some("a"), "Retain").accepted();
    let since = Instant::now();
    eventually("no token is issued", || token(&ns, "a").text.contains("[AI009]").then_some(()));
    figure(&format!("suspension: no new token {:.1} s after it", since.elapsed().as_secs_f64()));
    token(&ns, "a").refused("AgentSuspension \"one\"");
    ns.kubectl(&["delete", "agentsuspension", "one"]).accepted();
    eventually("tokens are issued again", || token(&ns, "a").ok.then_some(()));

    suspend(&ns, "all", None, "Retain").accepted();
    eventually("no token of any agent is issued", || token(&ns, "a").text.contains("\"all\"").then_some(()));
    assert!(ns.kubectl(&["get", "pod", "p"]).ok, "it is kept");
}

/// A token that was issued before dies with the account it was issued for: at the API server, whose own cache keeps a token
/// for ten seconds.
#[test]
fn issued_tokens_die_with_the_account() {
    let ns = Namespace::new();
    ns.identity("a", ", kubernetesAPIAccess: Token").accepted();
    apply(&ns.pod("p", "a", "")).accepted();
    ns.ages("p");
    let path = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    let token = ns.inside("p", &["cat", path]);
    let whoami =
        || run("kubectl", &["--token", token.trim(), "auth", "whoami", "--kubeconfig", &ns.anonymous()], "");
    assert!(whoami().accepted().contains("agent.a"));
    let uid = || get(&["-n", &ns.0, "serviceaccount", "agent.a"])["metadata"]["uid"].clone();
    let before = uid();

    suspend(&ns, "one", Some("a"), "Retain").accepted();
    let since = Instant::now();
    eventually("the token is refused", || whoami().text.contains("nauthorized").then_some(()));
    let died = since.elapsed();
    figure(&format!("suspension: an issued token is refused {:.1} s after it", died.as_secs_f64()));
    assert!(died <= Duration::from_secs(10 + 3), "{died:?}");
    assert_ne!(uid(), before);

    // Once is enough: a second suspension beside it, and the end of one, leave the account.
    let replaced = uid();
    suspend(&ns, "two", None, "Retain").accepted();
    ns.kubectl(&["delete", "agentsuspension", "two"]).accepted();
    ns.kubectl(&["delete", "agentsuspension", "one"]).accepted();
    ns.kubectl(&["wait", "--for=condition=Ready", "agentidentity/a", "--timeout=60s"]).accepted();
    assert_eq!(uid(), replaced);
}

/// New pods of a suspended agent wait, and run by themselves once it is switched on again: a Deployment is whole without
/// help, and nothing was refused in between.
#[test]
fn new_pods_wait_until_the_agent_is_switched_on_again() {
    let ns = Namespace::new();
    ns.agent("a");
    suspend(&ns, "one", Some("a"), "Retain").accepted();
    let condition = |status: &str| {
        let wait = format!("--for=condition=Suspended={status}");
        ns.kubectl(&["wait", &wait, "agentidentity/a", "--timeout=60s"]).accepted();
    };
    condition("True");
    let shown = ns.kubectl(&["get", "agentidentity", "a"]).accepted();
    assert!(shown.contains("Suspended"), "{shown}");
    let events = ns.kubectl(&["get", "events", "--field-selector", "reason=Suspended"]).accepted();
    assert!(events.contains("INC-4711"), "{events}");

    apply(&deployment(&ns, "d", 3, "")).accepted();
    let gated = |count: &str| {
        let path = "-o=jsonpath={.status.pods.gated}";
        (ns.kubectl(&["get", "agentidentity", "a", path]).accepted() == count).then_some(())
    };
    eventually("three pods wait", || gated("3"));
    let pods = get(&["-n", &ns.0, "pods"]);
    for pod in pods["items"].as_array().unwrap() {
        assert_eq!(pod["spec"]["nodeName"], Value::Null, "it was scheduled");
    }
    // Only the controller lets them go.
    let pod = pods["items"][0]["metadata"]["name"].as_str().unwrap();
    let lift = "[{\"op\":\"remove\",\"path\":\"/spec/schedulingGates\"}]";
    ns.kubectl(&["patch", "pod", pod, "--type=json", "-p", lift]).refused("[AI009]");
    ns.kubectl(&["annotate", "pod", pod, "deputy.dev/gated-"]).refused("[AI009]");
    let placed = ns.pod("placed", "a", ", nodeName: some-node");
    apply(&placed).refused("[AI009] spec.nodeName");

    ns.kubectl(&["delete", "agentsuspension", "one"]).accepted();
    let since = Instant::now();
    ns.kubectl(&["rollout", "status", "deployment/d", "--timeout=60s"]).accepted();
    figure(&format!(
        "suspension lifted: three pods that waited run {:.1} s after it",
        since.elapsed().as_secs_f64()
    ));
    condition("False");
    eventually("none waits", || gated("0"));
}

/// A Deployment of agent `a`.
fn deployment(ns: &Namespace, name: &str, replicas: u32, spec: &str) -> String {
    format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}, namespace: {}}}, spec: {{replicas: {replicas}, \
         selector: {{matchLabels: {{app: {name}}}}}, template: {{metadata: {{labels: {{app: {name}, deputy.dev/agent: a}}}}, spec: \
         {{terminationGracePeriodSeconds: 0, containers: [{{name: app, image: \"{IMAGE}\", imagePullPolicy: Never, \
         command: [sleep, \"3600\"]}}]}}}}{spec}}}}}",
        ns.0
    )
}

/// Job `name` of agent `a` that sleeps for as long as it says.
fn job(ns: &Namespace, name: &str, seconds: u32, spec: &str) -> String {
    format!(
        "{{apiVersion: batch/v1, kind: Job, metadata: {{name: {name}, namespace: {}}}, spec: {{template: {{metadata: {{labels: \
         {{deputy.dev/agent: a}}}}, spec: {{restartPolicy: Never, terminationGracePeriodSeconds: 0, containers: [{{name: app, \
         image: \"{IMAGE}\", imagePullPolicy: Never, command: [sleep, \"{seconds}\"]}}]}}}}{spec}}}}}",
        ns.0
    )
}

fn pods(ns: &Namespace) -> Vec<Value> {
    get(&["-n", &ns.0, "pods"])["items"].as_array().unwrap().clone()
}

fn is_gated(pod: &Value) -> bool {
    pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty())
}

/// Whatever ran ends, a disruption budget or not; what a controller makes anew waits, and runs afterwards without help.
#[test]
fn running_pods_end_and_what_has_a_controller_comes_back() {
    let ns = Namespace::new();
    ns.agent("a");
    apply(&deployment(&ns, "d", 2, "")).accepted();
    let budget = "{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: d}, spec: {minAvailable: 2, selector: \
                  {matchLabels: {app: d}}}}";
    run("kubectl", &["-n", &ns.0, "apply", "-f", "-"], budget).accepted();
    let evictable = ", backoffLimit: 0, podFailurePolicy: {rules: [{action: Ignore, onPodConditions: [{type: \
                     DisruptionTarget, status: \"True\"}]}]}";
    apply(&job(&ns, "j", 10, evictable)).accepted();
    let slow = ns
        .pod("bare", "a", "")
        .replace("terminationGracePeriodSeconds: 0", "terminationGracePeriodSeconds: 86400");
    apply(&slow).accepted();
    ns.kubectl(&["rollout", "status", "deployment/d", "--timeout=60s"]).accepted();
    ns.runs("bare");
    let running =
        ["wait", "--for=jsonpath={.status.phase}=Running", "pod", "-l", "job-name=j", "--timeout=60s"];
    ns.kubectl(&running).accepted();
    let before: Vec<_> = pods(&ns).iter().map(|pod| pod["metadata"]["uid"].clone()).collect();
    assert_eq!(before.len(), 4);

    suspend(&ns, "one", Some("a"), "Delete").accepted();
    let since = Instant::now();
    let still = |uid: &Value| {
        let goes = |pod: &Value| {
            // What ignores the signal is given half a minute and no more.
            let grace = pod["metadata"]["deletionGracePeriodSeconds"].as_i64();
            pod["metadata"]["name"] == "bare" && grace.is_some_and(|seconds| seconds <= 30)
        };
        pods(&ns).iter().any(|pod| pod["metadata"]["uid"] == *uid && !goes(pod))
    };
    eventually("no pod runs", || (!before.iter().any(still)).then_some(()));
    figure(&format!("suspension: four pods ended {:.1} s after it", since.elapsed().as_secs_f64()));
    // Deadlines count on: of a Job that had not started, and of a rollout.
    apply(&deployment(&ns, "new", 1, ", progressDeadlineSeconds: 3")).accepted();
    apply(&job(&ns, "late", 1, ", activeDeadlineSeconds: 3")).accepted();
    ns.kubectl(&["wait", "--for=condition=Failed", "job/late", "--timeout=60s"]).accepted();
    eventually("what was made anew waits", || {
        (pods(&ns).iter().filter(|pod| is_gated(pod)).count() == 4).then_some(())
    });
    let events = ns.kubectl(&["get", "events", "--field-selector", "reason=PodsEnded"]).accepted();
    assert!(events.contains("of the suspended agent"), "{events}");
    let progress =
        "--for=jsonpath={.status.conditions[?(@.type==\"Progressing\")].reason}=ProgressDeadlineExceeded";
    ns.kubectl(&["wait", progress, "deployment/new", "--timeout=60s"]).accepted();

    // What Git says of the identity is no word on the switch.
    ns.identity("a", "").accepted();
    let identity = format!(
        "{{apiVersion: deputy.dev/v1alpha1, kind: AgentIdentity, metadata: {{name: a, namespace: {}}}, spec: {{owner: \
         git@example.com}}}}",
        ns.0
    );
    let server_side = ["apply", "--server-side", "--force-conflicts", "--field-manager=git", "-f", "-"];
    run("kubectl", &server_side, &identity).accepted();
    let observed = "--for=jsonpath={.status.conditions[?(@.type==\"Suspended\")].observedGeneration}=2";
    ns.kubectl(&["wait", observed, "agentidentity/a", "--timeout=60s"]).accepted();
    ns.kubectl(&["wait", "--for=condition=Suspended", "agentidentity/a", "--timeout=60s"]).accepted();
    assert_eq!(pods(&ns).iter().filter(|pod| is_gated(pod)).count(), 4);

    ns.kubectl(&["delete", "agentsuspension", "one"]).accepted();
    for name in ["d", "new"] {
        let available = ["wait", "--for=condition=Available", "deployment", name, "--timeout=60s"];
        ns.kubectl(&available).accepted();
    }
    ns.kubectl(&["wait", "--for=condition=Complete", "job/j", "--timeout=60s"]).accepted();
    eventually("the bare pod is gone", || (!ns.kubectl(&["get", "pod", "bare"]).ok).then_some(()));
}

/// A webhook of somebody else that takes its time over pods labelled `slow: NAMESPACE`, and is then done without.
struct SlowWebhook<'a>(&'a Namespace);

impl<'a> SlowWebhook<'a> {
    fn new(ns: &'a Namespace) -> Self {
        // Takes every connection and never answers.
        ns.kubectl(&[
            "run",
            "tarpit",
            "--image",
            IMAGE,
            "--image-pull-policy=Never",
            "--",
            "nc",
            "-ll",
            "-p",
            "8443",
            "-e",
            "sleep",
            "60",
        ])
        .accepted();
        ns.runs("tarpit");
        let address = get(&["-n", &ns.0, "pod", "tarpit"])["status"]["podIP"].as_str().unwrap().to_owned();
        let webhook = format!(
            "{{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration, metadata: {{name: {0}}}, \
         webhooks: [{{name: slow.example.com, admissionReviewVersions: [v1], sideEffects: None, failurePolicy: Ignore, \
         timeoutSeconds: 5, clientConfig: {{url: \"https://{address}:8443/\"}}, objectSelector: {{matchLabels: {{slow: {0}}}}}, \
         rules: [{{apiGroups: [\"\"], apiVersions: [v1], operations: [CREATE], resources: [pods]}}]}}]}}",
            ns.0
        );
        apply(&webhook).accepted();
        Self(ns)
    }
}

impl Drop for SlowWebhook<'_> {
    fn drop(&mut self) {
        kubectl(&["delete", "validatingwebhookconfiguration", &self.0.0]);
    }
}

/// A create that is under way when the agent is suspended commits a pod that does not wait, and that is older by its
/// timestamp than the suspension. It goes, also where pods are kept.
#[test]
fn what_slips_in_goes_in_both_modes() {
    let ns = Namespace::new();
    ns.agent("a");
    apply(&ns.pod("ran", "a", "")).accepted();
    ns.runs("ran");
    let _webhook = SlowWebhook::new(&ns);
    let slow = |name: &str| {
        let labels = format!("labels: {{slow: {}, ", ns.0);
        apply(&ns.pod(name, "a", "").replace("labels: {", &labels))
    };
    eventually("the webhook is slow", || {
        let started = Instant::now();
        slow("warm").accepted();
        ns.kubectl(&["delete", "pod", "warm", "--wait=true"]).accepted();
        (started.elapsed() > Duration::from_secs(4)).then_some(())
    });
    for mode in ["Retain", "Delete"] {
        thread::scope(|scope| {
            let create = scope.spawn(|| {
                let started = Instant::now();
                let labels = format!("labels: {{slow: {}, ", ns.0);
                let pod = ns.pod("racer", "a", "").replace("labels: {", &labels);
                let said = run("kubectl", &["create", "-o", "json", "-f", "-"], &pod).accepted();
                (started.elapsed(), serde_json::from_str::<Value>(&said).unwrap())
            });
            // Permitted by now, and not yet answered.
            thread::sleep(Duration::from_secs(2));
            suspend(&ns, "one", Some("a"), mode).accepted();
            let suspension = get(&["-n", &ns.0, "agentsuspension", "one"]);
            let (took, pod) = create.join().unwrap();
            assert!(took > Duration::from_secs(4), "{took:?}");
            assert!(!is_gated(&pod), "it was no race: {pod}");
            let created =
                |object: &Value| object["metadata"]["creationTimestamp"].as_str().unwrap().to_owned();
            assert!(created(&pod) < created(&suspension));
            let since = Instant::now();
            eventually("the pod that slipped in is gone", || {
                (!ns.kubectl(&["get", "pod", "racer"]).ok).then_some(())
            });
            figure(&format!(
                "suspension ({mode}): what slipped in is gone {:.1} s after its commit",
                since.elapsed().as_secs_f64()
            ));
        });
        assert_eq!(ns.kubectl(&["get", "pod", "ran"]).ok, mode == "Retain");
        ns.kubectl(&["delete", "agentsuspension", "one"]).accepted();
        eventually("new pods do not wait", || {
            let dry = ["create", "--dry-run=server", "-o", "json", "-f", "-"];
            let pod = run("kubectl", &dry, &ns.pod("dry", "a", "")).accepted();
            (!is_gated(&serde_json::from_str(&pod).unwrap())).then_some(())
        });
    }
}

/// Off is off, also where nobody can say what the identity is.
#[test]
fn tokens_die_though_the_identity_is_invalid() {
    let ns = Namespace::new();
    ns.agent("a");
    let account = || ns.kubectl(&["get", "serviceaccount", "agent.a", "-o", "jsonpath={.metadata.uid}"]);
    let before = account().accepted();
    ns.identity("a", ", serviceAccount: {annotations: {example.com/x: role}}").accepted();
    ns.kubectl(&["wait", "--for=condition=Accepted=False", "agentidentity/a", "--timeout=60s"]).accepted();
    suspend(&ns, "stop", Some("a"), "Retain").accepted();
    eventually("its account is gone", || (!account().ok).then_some(()));
    ns.identity("a", ", serviceAccount: {annotations: {}}").accepted();
    eventually("it is made again", || account().ok.then_some(()));
    assert_ne!(account().accepted(), before);
}

/// An identity that is deleted and made again under one name is another: its predecessor's pods end.
#[test]
fn the_pods_of_an_identity_end_when_another_takes_its_name() {
    let ns = Namespace::new();
    ns.agent("a");
    apply(&ns.pod("p", "a", "")).accepted();
    ns.runs("p");
    ns.kubectl(&["delete", "agentidentity", "a"]).accepted();
    assert!(ns.kubectl(&["get", "pod", "p"]).ok);
    ns.agent("a");
    eventually("the pod is gone", || (!ns.kubectl(&["get", "pod", "p"]).ok).then_some(()));
    let events = ns.kubectl(&["get", "events", "--field-selector", "reason=PodsEnded"]).accepted();
    assert!(events.contains("1 of an earlier identity"), "{events}");
    apply(&ns.pod("p", "a", "")).accepted();
    ns.runs("p");
}

/// A CronJob that must not overlap makes no second Job while the first one's pod waits.
#[test]
#[ignore = "takes two minutes: make soak"]
fn a_cron_job_that_forbids_overlap_queues() {
    let ns = Namespace::new();
    ns.agent("a");
    suspend(&ns, "one", Some("a"), "Delete").accepted();
    ns.kubectl(&["wait", "--for=condition=Suspended", "agentidentity/a", "--timeout=60s"]).accepted();
    apply(&format!(
        "{{apiVersion: batch/v1, kind: CronJob, metadata: {{name: c, namespace: {}}}, spec: {{schedule: \"* * * * *\", \
         concurrencyPolicy: Forbid, jobTemplate: {{spec: {{template: {{metadata: {{labels: {{deputy.dev/agent: a}}}}, spec: \
         {{restartPolicy: Never, containers: [{{name: app, image: \"{IMAGE}\", imagePullPolicy: Never, command: [\"true\"]}}]}}}}}}}}}}}}",
        ns.0
    ))
    .accepted();
    let jobs = || get(&["-n", &ns.0, "jobs"])["items"].as_array().unwrap().len();
    eventually("its first pod waits", || pods(&ns).iter().any(is_gated).then_some(()));
    eventually("the next minute was skipped", || {
        let skipped =
            ns.kubectl(&["get", "events", "--field-selector", "reason=JobAlreadyActive", "-o", "name"]);
        (!skipped.accepted().trim().is_empty()).then_some(())
    });
    assert_eq!(jobs(), 1);
    ns.kubectl(&["delete", "agentsuspension", "one"]).accepted();
    eventually("the first Job is complete", || {
        let jobs = get(&["-n", &ns.0, "jobs"]);
        jobs["items"].as_array().unwrap().iter().any(|job| job["status"]["succeeded"] == 1).then_some(())
    });
}

#[test]
fn a_suspension_is_by_whom_it_says_and_stays_as_it_is() {
    let ns = Namespace::new();
    suspend(&ns, "s", Some("a"), "Retain").accepted();
    let patch = "{\"spec\":{\"agentName\":\"b\"}}";
    ns.kubectl(&["patch", "agentsuspension", "s", "--type=merge", "-p", patch]).refused("cannot be changed");
    let patch = "{\"spec\":{\"pods\":\"Delete\"}}";
    ns.kubectl(&["patch", "agentsuspension", "s", "--type=merge", "-p", patch]).refused("cannot be changed");
    suspend(&ns, "t", Some("a"), "Keep").refused("spec.pods");
    ns.kubectl(&["label", "agentsuspension", "s", "a=b"]).accepted();

    let on_call = ns.editor("on-call");
    let account = format!("--serviceaccount={}:on-call", ns.0);
    ns.kubectl(&["create", "rolebinding", "suspend", "--clusterrole=deputy-suspender", &account]).accepted();
    let by = |who: &str| {
        format!(
            "{{apiVersion: deputy.dev/v1alpha1, kind: AgentSuspension, metadata: {{name: t}}, spec: {{reason: r, \
             requestedBy: {who:?}}}}}"
        )
    };
    let create = ["-n", ns.0.as_str(), "create", "-f", "-"];
    on_call.kubectl(&create, &by("dana")).refused("spec.requestedBy");
    on_call.kubectl(&create, &by(&format!("system:serviceaccount:{}:on-call", ns.0))).accepted();
    on_call.kubectl(&["-n", &ns.0, "delete", "agentsuspension", "s"], "").accepted();
    // The switch is no right on the agents.
    on_call.kubectl(&["-n", &ns.0, "delete", "agentidentity", "a"], "").refused("forbidden");
}
