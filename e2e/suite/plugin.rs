//! The kubectl plugin as people run it: `kubectl deputy ...`, each with rights of his own.

use crate::support::{Namespace, Said, User, apply, eventually, figure, get, run};
use std::{env, os::unix::fs::symlink, path::PathBuf, time::Instant};

/// The plugin where kubectl finds it.
pub struct Plugin(PathBuf);

impl Plugin {
    pub fn new() -> Self {
        let folder = env::temp_dir().join(format!("kubectl-deputy-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        symlink(env!("CARGO_BIN_EXE_deputy"), folder.join("kubectl-deputy")).unwrap();
        Self(folder)
    }

    /// `kubectl deputy ...`, and its exit status.
    pub fn status(&self, kubeconfig: &str, arguments: &[&str]) -> (Said, String) {
        let path = format!("PATH={}:{}", self.0.display(), env::var("PATH").unwrap());
        let config = format!("KUBECONFIG={kubeconfig}");
        let script = ["sh", "-c", "kubectl deputy \"$@\"; echo \"exit $?\"", "sh"];
        let said = run("env", &[&[path.as_str(), &config], &script[..], arguments].concat(), "").accepted();
        let ended = said.lines().find_map(|line| line.strip_prefix("exit ")).unwrap().to_owned();
        (Said { ok: ended == "0", text: said }, ended)
    }

    /// `kubectl deputy ...`
    pub fn by(&self, kubeconfig: &str, arguments: &[&str]) -> Said {
        let path = format!("PATH={}:{}", self.0.display(), env::var("PATH").unwrap());
        let config = format!("KUBECONFIG={kubeconfig}");
        run("env", &[&[path.as_str(), &config, "kubectl", "deputy"], arguments].concat(), "")
    }

    pub fn admin(&self, arguments: &[&str]) -> Said {
        self.by(&env::var("KUBECONFIG").unwrap(), arguments)
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Somebody on call for a namespace, and nothing else.
fn on_call(ns: &Namespace, name: &str) -> User {
    let user = ns.editor(name);
    ns.kubectl(&["delete", "rolebinding", name]).accepted();
    let account = format!("--serviceaccount={}:{name}", ns.0);
    ns.kubectl(&["create", "rolebinding", name, "--clusterrole=deputy-suspender", &account]).accepted();
    user
}

#[test]
fn who_is_on_call_switches_an_agent_off_and_on() {
    let (plugin, ns) = (Plugin::new(), Namespace::new());
    ns.agent("a");
    let (dana, kim, eve) = (on_call(&ns, "dana"), on_call(&ns, "kim"), ns.editor("eve"));
    let suspend = ["suspend", "a", "-n", &ns.0, "--reason", "INC-4711"];
    plugin.by(&eve.0, &suspend).refused("deputy-suspender");
    plugin.by(&dana.0, &["suspend", "b", "-n", &ns.0, "--reason", "r"]).refused("there is no AgentIdentity");

    let since = Instant::now();
    plugin.by(&dana.0, &suspend).accepted();
    figure(&format!("plugin: suspended in {:.2} s", since.elapsed().as_secs_f64()));
    let said = plugin.by(&dana.0, &suspend).accepted();
    assert!(said.contains("suspended already"), "{said}");
    let by = get(&["-n", &ns.0, "agentsuspensions"])["items"][0]["spec"]["requestedBy"].clone();
    assert_eq!(by, format!("system:serviceaccount:{}:dana", ns.0));
    ns.kubectl(&["wait", "--for=condition=Suspended", "agentidentity/a", "--timeout=60s"]).accepted();
    let status = plugin.by(&dana.0, &["status", "a", "-n", &ns.0]).accepted();
    assert!(status.contains("INC-4711") && status.contains(":dana"), "{status}");

    let claims = plugin.admin(&["claims", "-n", &ns.0]).accepted();
    assert!(claims.contains("no credential is held or waited for"), "{claims}");

    // What one has switched off, another does not switch on by the way.
    plugin.by(&kim.0, &suspend).accepted();
    plugin.by(&dana.0, &["resume", "a", "-n", &ns.0]).refused("STILL suspended");
    plugin.by(&eve.0, &["resume", "a", "-n", &ns.0, "--by-anyone"]).refused("deputy-suspender");
    plugin.by(&dana.0, &["suspend", "--all", "-n", &ns.0, "--reason", "INC-4712"]).accepted();
    plugin.by(&kim.0, &["resume", "a", "-n", &ns.0]).refused("INC-4712");
    plugin.by(&dana.0, &["resume", "--all", "-n", &ns.0]).accepted();
    ns.kubectl(&["wait", "--for=condition=Ready", "agentidentity/a", "--timeout=60s"]).accepted();
    let json = plugin.by(&kim.0, &["status", "-n", &ns.0, "-o", "json"]).accepted();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["agents"][0]["name"], &json["agents"][0]["suspended"]), (&"a".into(), &false.into()));
}

#[test]
fn all_that_somebody_answers_for_is_switched_off_at_once() {
    let (plugin, one, two) = (Plugin::new(), Namespace::new(), Namespace::new());
    let owner = format!("team-{}@example.com", one.0);
    for (ns, name) in [(&one, "a"), (&one, "b"), (&two, "a")] {
        ns.agent(name);
        let patch = format!("{{\"spec\":{{\"owner\":{owner:?}}}}}");
        ns.kubectl(&["patch", "agentidentity", name, "--type=merge", "-p", &patch]).accepted();
    }
    two.agent("theirs");
    // Of one namespace only: what is not allowed is refused and told, and not dropped.
    let dana = on_call(&one, "dana");
    let all = ["suspend", "--owner", &owner, "-A", "--reason", "INC-4711"];
    plugin.by(&dana.0, &all).refused("at the cluster scope");
    plugin.admin(&all).accepted();
    let count = |ns: &Namespace| get(&["-n", &ns.0, "agentsuspensions"])["items"].as_array().unwrap().len();
    assert_eq!((count(&one), count(&two)), (2, 1));
    let status = plugin.admin(&["status", "--owner", &owner, "-A"]).accepted();
    assert_eq!(status.matches("INC-4711").count(), 3, "{status}");
    assert!(!status.contains("theirs"), "{status}");
    plugin.admin(&["resume", "--owner", &owner, "-A"]).accepted();
    assert_eq!((count(&one), count(&two)), (0, 0));
}

/// Kept as evidence: the pod stays, and its tokens die.
#[test]
fn pods_are_kept_where_the_switch_says_so() {
    let (plugin, ns) = (Plugin::new(), Namespace::new());
    ns.agent("a");
    apply(&ns.pod("p", "a", "")).accepted();
    ns.runs("p");
    let account = || get(&["-n", &ns.0, "serviceaccount", "agent.a"])["metadata"]["uid"].clone();
    let (before, pod) = (account(), get(&["-n", &ns.0, "pod", "p"])["metadata"]["uid"].clone());
    ns.ages("p");
    plugin.admin(&["suspend", "a", "-n", &ns.0, "--reason", "INC-4711", "--pods", "retain"]).accepted();
    eventually("the account is another", || {
        ns.kubectl(&["get", "serviceaccount", "agent.a"]).ok.then(account).filter(|uid| *uid != before)
    });
    assert_eq!(get(&["-n", &ns.0, "pod", "p"])["metadata"]["uid"], pod);
    plugin.admin(&["resume", "a", "-n", &ns.0]).accepted();
}

#[test]
fn a_cluster_that_is_not_there_is_said_so() {
    let (plugin, ns) = (Plugin::new(), Namespace::new());
    let config = PathBuf::from(ns.anonymous());
    let text = std::fs::read_to_string(&config).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1".into();
    std::fs::write(&config, json.to_string()).unwrap();
    let path = config.display().to_string();
    let said = plugin.by(&path, &["suspend", "a", "-n", &ns.0, "--reason", "r"]);
    said.refused("NOT suspended: the API server at 127.0.0.1:1 cannot be reached");
    plugin.by("/nowhere", &["status"]).refused("set KUBECONFIG");
    plugin.admin(&["status", "--context", "nowhere"]).refused("nowhere");
    // Somebody else by a flag of kubectl's.
    let nobody = plugin.admin(&["status", "-n", &ns.0, "--as", "nobody", "--as-group", "nothing"]);
    nobody.refused("User \"nobody\" cannot list");
}
