//! `deputy scan`: every rule against documents that break it and documents that nearly do, and the command as scripts and
//! people meet it.

use deputy::{
    index::{Declarable, ReservedAudiences},
    policy::{Action, Engine, Settings, rules},
    scan::{Inputs, Located, Options, Report, World, read},
};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

const API: &str = "https://kubernetes.default.svc.cluster.local";

fn options() -> Options {
    let reserved: ReservedAudiences = [API.to_owned()].into_iter().collect();
    let roles = ["eks.amazonaws.com/role-arn".to_owned()];
    Options {
        settings: Settings::builtin(reserved.clone()).unwrap(),
        declarable: Declarable { reserved, cloud_role_annotations: Arc::new(roles.into()), issuer: None },
        namespace: "default".to_owned(),
        assume_agents: false,
        now: Timestamp::UNIX_EPOCH,
    }
}

/// A key that is in no file of the repository.
fn key() -> String {
    format!("sk-ant-api03-{}", "aB3dE6gH9jK2mN5pQ8sT".repeat(5))
}

fn data(file: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/scan").join(file)
}

/// Text and documents of a file of `tests/data/scan`.
fn documents(file: impl AsRef<Path>) -> (String, Vec<Located>) {
    let text = fs::read_to_string(data(file)).unwrap().replace("@KEY@", &key());
    let contents = read(text.as_bytes(), false);
    assert_eq!(contents.unread, []);
    (text, contents.documents)
}

/// What is found in one document in the world of the corpus.
fn judged(document: Located) -> Report {
    let mut inputs = Inputs::default();
    inputs.add(&"world".into(), documents("world.yaml").1);
    inputs.add(&"document".into(), vec![document]);
    let mut report = World::new(inputs, options()).judge();
    assert_eq!(report.unread, []);
    report.results.retain(|judged| *judged.source == *"document");
    report
}

fn files(directory: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(data(directory)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn each_rule_has_documents_that_raise_it_on_their_line_and_near_misses_that_do_not() {
    let (mut count, mut unseen) = (0, BTreeSet::new());
    unseen.extend(rules().iter().filter(|rule| rule.engine != Engine::Policy).map(|rule| rule.id));
    for file in files("refused") {
        let rule = file.file_stem().unwrap().to_str().unwrap();
        let (text, documents) = documents(&file);
        for document in documents {
            let report = judged(document.clone());
            let found: Vec<_> = report.results.iter().flat_map(|judged| &judged.findings).collect();
            assert!(!found.is_empty(), "{rule}: nothing in {}", document.value);
            for located in found {
                let line = text.lines().nth(located.line - 1).unwrap();
                assert_eq!(located.finding.rule.id, rule, "{}: {}", located.finding, document.value);
                assert!(line.ends_with("# here"), "{rule}: {}: {line}", located.finding);
                assert!(!located.finding.to_string().contains(&key()), "{rule} shows the key");
            }
            count += 1;
        }
        unseen.remove(rule);
    }
    for file in files("near") {
        for document in documents(&file).1 {
            let report = judged(document);
            let found: Vec<_> = report.results.iter().flat_map(|judged| &judged.findings).collect();
            assert!(found.is_empty() && report.results.len() == 1, "{}: {found:?}", file.display());
            count += 1;
        }
    }
    // What mutation puts right, and what happens to pods that run already.
    assert_eq!(unseen, BTreeSet::from(["AI004", "AI006", "AI101", "AI502"]));
    println!("{count} documents");
}

/// An agent's Deployment, as the README has it.
fn readme() -> String {
    let readme = include_str!("../../README.md");
    let begin = readme.find("apiVersion: deputy.dev/v1alpha1").unwrap();
    readme[begin..].split("```").next().unwrap().to_owned()
}

/// Runs the command in `directory`; exit code, standard output, standard error.
fn deputy(directory: &Path, arguments: &[&str], stdin: &[u8]) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_deputy"))
        .arg("scan")
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    directory
}

const BORROWS: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {deputy.dev/agent: a}}\nspec:\n  containers:\n  - name: app\n    envFrom:\n    - secretRef: {name: s}\n";
const IDENTITY: &str = "apiVersion: deputy.dev/v1alpha1\nkind: AgentIdentity\nmetadata: {name: a}\nspec: {owner: team@example.com}\n";

#[test]
fn the_readmes_deployment_has_no_finding() {
    let (code, out, err) = deputy(Path::new("."), &["-f", "-"], readme().as_bytes());
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, "2 objects judged: 0 would be refused, 0 warned of\n");
}

#[test]
fn the_documentation_shows_what_the_command_says() {
    let text = include_str!("../../docs/scan.md");
    let mut shown = 0;
    for block in text.split("```console\n$ deputy scan ").skip(1) {
        let (command, output) = block.split("```").next().unwrap().split_once('\n').unwrap();
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples");
        let (_, out, err) = deputy(&docs, &command.split(' ').collect::<Vec<_>>(), b"");
        assert_eq!(format!("{err}{out}"), output, "{command}");
        shown += 1;
    }
    assert_eq!(shown, 2);
}

#[test]
fn people_read_what_is_wrong_where_and_what_to_do() {
    let tree = tree(&[
        ("agents/pod.yaml", BORROWS),
        ("agents/identity.yml", IDENTITY),
        ("service.json", r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}}"#),
        ("broken.yaml", "a: [\n"),
        ("notes.txt", "a: ["),
        (".git/x.yaml", "a: ["),
    ]);
    let (code, out, err) = deputy(tree.path(), &["-f", "agents", "-f", "service.json"], b"");
    assert_eq!((code, err.as_str()), (1, ""));
    assert_eq!(
        out,
        "agents/pod.yaml\n\
         \x20 Pod default/p\n\
         \x20     8  deny  AI201  spec.containers[0].envFrom[0].secretRef\n\
         \x20                     reads Secret \"s\" into the environment, which AgentIdentity \"a\" does not declare\n\
         \x20                     -> use a token the AgentIdentity declares, or declare the Secret in its spec.credentials: \
         keys, delivery and an end\n\
         \n\
         2 objects judged: 1 would be refused, 0 warned of; 1 document of other kinds skipped\n\
         each rule is explained in docs/rules.md\n"
    );
    let (code, out, err) = deputy(tree.path(), &["-f", "."], b"");
    assert_eq!(code, 2);
    assert!(err.starts_with("./broken.yaml:") && err.lines().count() == 1, "{err}");
    assert!(out.contains("AI201") && out.contains("1 part could not be read"), "{out}");
}

#[test]
fn exit_codes_are_what_scripts_rely_on() {
    let run = |arguments: &[&str], text: &str| {
        deputy(Path::new("."), &[&["-f", "-"], arguments].concat(), text.as_bytes()).0
    };
    let agent_that_borrows = format!("{IDENTITY}---\n{BORROWS}");
    let pulls = format!("{IDENTITY}---\n{BORROWS}")
        .replace("envFrom:\n    - secretRef: {name: s}", "image: x\n  imagePullSecrets: [{name: s}]");
    assert_eq!(run(&[], IDENTITY), 0);
    assert_eq!(run(&[], &agent_that_borrows), 1);
    assert_eq!(run(&[], &format!("{agent_that_borrows}---\na: [\n")), 2);
    assert_eq!(run(&["--fail-on", "never"], &agent_that_borrows), 0);
    assert_eq!(run(&["--fail-on", "never"], "a: ["), 2);
    assert_eq!(run(&[], &pulls), 0, "a warning is no failure");
    assert_eq!(run(&["--fail-on", "warn"], &pulls), 1);
    assert_eq!(run(&["--no-such-flag"], ""), 2);
    assert_eq!(deputy(Path::new("."), &["-f", "/no/such/file.yaml"], b"").0, 2);
}

#[test]
fn json_has_the_shape_scripts_rely_on() {
    let text = format!("{IDENTITY}---\n# nothing\n---\nkind: x\n---\n{BORROWS}---\na: [\n");
    let (code, out, _) =
        deputy(Path::new("."), &["-f", "-", "-o", "json", "-n", "research"], text.as_bytes());
    let mut report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 2);
    assert_eq!(report["summary"], json!({"scanned": 2, "denied": 1, "warned": 0, "skipped": 1}));
    assert_eq!(report["errors"][0]["source"], "-");
    assert!(report["errors"][0]["line"].is_u64() && report["errors"][0]["message"].is_string(), "{report}");
    let finding = json!({
        "rule": "AI201", "severity": "high", "action": "deny", "line": 17,
        "path": "spec.containers[0].envFrom[0].secretRef",
        "message": "reads Secret \"s\" into the environment, which AgentIdentity \"a\" does not declare",
    });
    let results = json!([
        {"source": "-", "document": 1, "kind": "AgentIdentity", "namespace": "research", "name": "a", "findings": []},
        {"source": "-", "document": 3, "kind": "Pod", "namespace": "research", "name": "p", "findings": [finding]},
    ]);
    assert_eq!(report["results"].take(), results);
}

#[test]
fn with_agents_assumed_everybody_is_one_who_declares_nothing() {
    let deployment = |spec: Value| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
               "spec": {"selector": {}, "template": {"metadata": {"labels": {"app": "web"}}, "spec": spec}}})
    };
    let rules_of = |object: &Value| {
        let (_, out, err) = deputy(
            Path::new("."),
            &["-f", "-", "--assume-agents", "-o", "json"],
            object.to_string().as_bytes(),
        );
        assert_eq!(err, "");
        let report: Value = serde_json::from_str(&out).unwrap();
        let findings =
            report["results"].as_array().unwrap().iter().flat_map(|r| r["findings"].as_array().unwrap());
        findings.map(|f| f["rule"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let app = json!([{"name": "app", "image": "i"}]);
    let token =
        |token: Value| json!([{"name": "v", "projected": {"sources": [{"serviceAccountToken": token}]}}]);
    for (spec, expected) in [
        (json!({"containers": app}), vec![]),
        (json!({"containers": app, "serviceAccountName": "web", "serviceAccount": "other"}), vec![]),
        (json!({"containers": app, "automountServiceAccountToken": true}), vec![]),
        (
            json!({"containers": app, "volumes": token(json!({"path": "t", "audience": "https://x.example.com"}))}),
            vec!["AI104"],
        ),
        (json!({"containers": app, "volumes": token(json!({"path": "t"}))}), vec!["AI102"]),
        (json!({"containers": app, "imagePullSecrets": [{"name": "regcred"}]}), vec!["AI203"]),
        (
            json!({"containers": app, "volumes": [{"name": "v", "secret": {"secretName": "s"}}]}),
            vec!["AI202"],
        ),
        (json!({"containers": app, "hostPID": true}), vec!["AI401"]),
    ] {
        assert_eq!(rules_of(&deployment(spec.clone())), expected, "{spec}");
    }
    // Whoever is an agent of the input is judged as that.
    let both = format!("{IDENTITY}---\n{BORROWS}");
    let (_, out, _) = deputy(Path::new("."), &["-f", "-", "--assume-agents"], both.as_bytes());
    assert!(out.contains("which AgentIdentity \"a\" does not declare"), "{out}");
    let (_, out, _) = deputy(Path::new("."), &["-f", "-", "--assume-agents"], BORROWS.as_bytes());
    assert!(out.contains("which AgentIdentity \"assumed\" does not declare"), "{out}");
}

#[test]
fn files_are_read_as_people_have_them() {
    let crlf = format!("\u{feff}{IDENTITY}").replace('\n', "\r\n");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "PodList", "items": [serde_json::to_value(pod("p", "a")).unwrap()]}]});
    let big = format!("{}---\n{}", "# a comment\n".repeat(200_000), pod("big", "nobody"));
    let base = "x: &labels {deputy.dev/agent: nobody}\n";
    let merged = format!(
        "{base}apiVersion: v1\nkind: Pod\nmetadata:\n  name: m\n  labels: {{<<: *labels, app: x}}\nspec: {{containers: [{{name: c}}]}}\n"
    );
    let tree = tree(&[
        ("identity.yaml", crlf.as_str()),
        ("list.json", &list.to_string()),
        ("deep/er/big.YML", &big),
        ("merged.yaml", &merged),
        ("values.yaml", "image: x\n"),
    ]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::symlink;
        symlink("../deep", tree.path().join("deep/circle")).unwrap();
        symlink("merged.yaml", tree.path().join("again.yaml")).unwrap();
        symlink("/etc", tree.path().join("outside")).unwrap();
        symlink("nowhere.yaml", tree.path().join("broken.yaml")).unwrap();
    }
    let root = tree.path().to_str().unwrap();
    let (code, out, err) = deputy(tree.path(), &["-f", root, "-o", "json"], b"");
    assert_eq!(code, 2);
    let told: Vec<_> = err.lines().map(|line| line.replace(root, "")).collect();
    assert_eq!(told.len(), 2, "{err}");
    assert!(told[0].starts_with("/broken.yaml: "), "{err}");
    assert!(told[1].starts_with("/outside: a symbolic link that leads out of the directory"), "{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["summary"], json!({"scanned": 4, "denied": 2, "warned": 0, "skipped": 1}), "{out}");
    let line = |name: &str| {
        let mut results = report["results"].as_array().unwrap().iter();
        results.find(|result| result["name"] == name).unwrap()["findings"][0]["line"].clone()
    };
    // The label came from where it was written.
    assert_eq!((line("big"), line("m")), (json!(200_002), json!(1)));
}

fn pod(name: &str, agent: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"deputy.dev/agent": agent}},
           "spec": {"containers": [{"name": "app"}]}})
}

#[test]
fn a_chart_is_to_be_rendered_and_what_cannot_be_judged_is_told_by_line() {
    let tree = tree(&[
        ("chart/Chart.yaml", "name: x\n"),
        ("chart/values.yaml", "a: 1\n"),
        ("chart/templates/pod.yaml", "kind: Pod\nmetadata:\n  name: \"{{ .Release.Name }}\"\n"),
    ]);
    let (code, _, err) = deputy(tree.path(), &["-f", "chart"], b"");
    assert_eq!(code, 2);
    assert!(err.starts_with("chart/templates/pod.yaml:3: ") && err.contains("helm template"), "{err}");
    for (text, told) in [
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {deputy.dev/agent: a}}\nspec:\n  containers: 1\n",
            "-:5: Pod \"p\" is not as Kubernetes would have it",
        ),
        (
            "apiVersion: deputy.dev/v1alpha1\nkind: AgentIdentity\nmetadata: {name: x}\nspec:\n  tokens: []\n",
            "-:4: AgentIdentity \"x\" is no AgentIdentity of deputy.dev/v1alpha1: missing field `owner`",
        ),
        (
            "apiVersion: deputy.dev/v1alpha1\nkind: AgentException\nmetadata: {name: x}\nspec: {agentRef: {namespace: ns, name: a}, rules: [AI201, AI202], effect: Allow, reason: r, expirationTime: \"2999-01-01T00:00:00Z\"}\n",
            "-:4: AgentException \"x\" lets nothing pass",
        ),
        ("a: 1\nb: \0\n", "-:2: there is a NUL byte"),
    ] {
        let (code, _, err) = deputy(Path::new("."), &["-f", "-"], text.as_bytes());
        assert!(code == 2 && err.starts_with(told), "{code}: {err}");
    }
    let wrong = "apiVersion: deputy.dev/v1alpha1\nkind: AgentIdentity\nmetadata: {name: x}\nspec: {owner: o, kubernetesAPIAccess: SECRETVALUE}\n";
    let (_, out, err) = deputy(Path::new("."), &["-f", "-"], wrong.as_bytes());
    assert!(!err.contains("SECRETVALUE") && !out.contains("SECRETVALUE") && err.contains("-:4: "), "{err}");
}

#[test]
fn own_formats_are_refused_too_and_a_bad_one_is_named() {
    let own = |regex: &str| {
        format!("[[rules]]\nid = 'acme'\ndescription = 'd'\nregex = '{regex}'\nkeywords = ['acme_']\n")
    };
    let tree = tree(&[
        ("good.toml", &own("acme_[a-z0-9]{12}")),
        ("bad.toml", &own("acme_(")),
        ("identity.yaml", IDENTITY),
    ]);
    let mut pod = pod("p", "a");
    pod["spec"]["containers"][0]["args"] = json!(["acme_a1b2c3d4e5f6"]);
    fs::write(tree.path().join("pod.json"), pod.to_string()).unwrap();
    let run = |formats: &[&str]| {
        deputy(tree.path(), &[&["-f", "identity.yaml", "-f", "pod.json"], formats].concat(), b"")
    };
    assert_eq!(run(&[]).0, 0);
    let (code, out, _) = run(&["--formats", "good.toml"]);
    assert!(code == 1 && out.contains("matches \"acme\" (17 characters)"), "{out}");
    let (code, _, err) = run(&["--formats", "bad.toml"]);
    assert!(code == 2 && err.contains("--formats bad.toml") && err.contains("format \"acme\""), "{err}");
}

#[test]
fn a_warning_is_told_and_no_refusal() {
    let random: String = "aB3dE6gH9jK2mN5pQ8sTu4vW7".chars().rev().collect();
    let mut pod = pod("p", "a");
    pod["spec"]["containers"][0]["env"] = json!([{"name": "API_TOKEN", "value": random}]);
    let mut inputs = Inputs::default();
    inputs.add(&"i".into(), read(IDENTITY.as_bytes(), false).documents);
    inputs.add(&"p".into(), read(pod.to_string().as_bytes(), false).documents);
    let report = World::new(inputs, options()).judge();
    assert_eq!((report.denied(), report.warned()), (0, 1));
    assert!(report.results[1].has(Action::Warn));
}
