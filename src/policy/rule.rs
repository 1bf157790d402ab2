//! The rule table: the one source of every rule's id, name, severity, OWASP NHI entries, title and remedy.

/// A rule of Deputy.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Stable identifier, `AI` and three digits; the first digit is the family.
    pub id: &'static str,
    /// Short name, in kebab case.
    pub name: &'static str,
    /// How bad a violation is.
    pub severity: Severity,
    /// Entries of the OWASP Non-Human Identities Top 10 (2025) that it answers.
    pub nhi: &'static [u8],
    /// What enforces it.
    pub engine: Engine,
    /// What an `AgentException` may do about it.
    pub exceptable: Exceptable,
    /// What the rule refuses, in a sentence.
    pub title: &'static str,
    /// Why it is there.
    pub why: &'static str,
    /// What a person who meets it should do, in a clause.
    pub remedy: &'static str,
}

/// How bad a violation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A weakness in combination with others.
    Low,
    /// Weakens the separation of agents.
    Medium,
    /// Gives an agent a credential it must not have.
    High,
    /// Gives away an identity or a key as it stands.
    Critical,
}

impl Severity {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// What enforces a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The controller, which does not make what breaks it.
    Controller,
    /// A ValidatingAdmissionPolicy of the chart: in force with Deputy down.
    Policy,
    /// The validating webhook.
    Webhook,
    /// A policy for one half, the webhook for the other.
    Both,
}

impl Engine {
    /// The words for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Policy => "admission policy",
            Self::Webhook => "webhook",
            Self::Both => "admission policy and webhook",
        }
    }
}

/// What an `AgentException` may do about a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceptable {
    /// Nothing: on this rule rests that a pod is the agent it says it is, or a policy without exceptions enforces it.
    Never,
    /// Have it warn, while workloads are brought under Deputy. To let it pass for good there is another way, or no one
    /// place to name.
    Warn,
    /// Let it pass, for the whole agent.
    Allow,
    /// Let it pass at one container or volume, or have it warn.
    AllowOrWarn,
}

impl Exceptable {
    /// The words for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Never => "none",
            Self::Warn => "Warn",
            Self::Allow => "Allow",
            Self::AllowOrWarn => "Allow, Warn",
        }
    }

    /// Whether an exception may let it pass.
    pub fn may_allow(self) -> bool {
        matches!(self, Self::Allow | Self::AllowOrWarn)
    }

    /// Whether an exception may have it warn.
    pub fn may_warn(self) -> bool {
        matches!(self, Self::Warn | Self::AllowOrWarn)
    }
}

/// Every rule, by id.
pub fn rules() -> &'static [&'static Rule] {
    &ALL
}

macro_rules! rules {
    (@exceptable) => { Exceptable::Never };
    (@exceptable $exceptable:ident) => { Exceptable::$exceptable };
    ($($ident:ident, $name:literal, $severity:ident, $nhi:expr, $engine:ident $(exceptable $exceptable:ident)?,
       $title:literal, $why:literal, $remedy:literal;)*) => {
        $(
            pub(super) static $ident: Rule = Rule {
                id: stringify!($ident), name: $name, severity: Severity::$severity, nhi: &$nhi,
                engine: Engine::$engine, exceptable: rules!(@exceptable $($exceptable)?), title: $title, why: $why, remedy: $remedy,
            };
        )*
        static ALL: [&Rule; [$(stringify!($ident)),*].len()] = [$(&$ident),*];
    };
}

rules! {
    AI001, "no-identity", High, [9, 4], Webhook,
        "The pod names no AgentIdentity that is valid and owns its account.",
        "An agent nobody declared has no owner, no declared tokens and no switch.",
        "declare the AgentIdentity in the pod's namespace, or fix what its conditions say";
    AI002, "default-account", High, [9, 5], Webhook,
        "The pod runs as the namespace's default account, or its two account fields differ.",
        "The default account is shared by everything in the namespace: nobody can say who acted.",
        "label the pod deputy.dev/agent: NAME and leave serviceAccountName out";
    AI003, "foreign-account", Critical, [9], Webhook,
        "The pod is labelled for one agent and runs as another account.",
        "Two agents on one account are one principal: what one is trusted with, both have.",
        "remove serviceAccountName, or set the label deputy.dev/agent to the agent the account belongs to";
    AI004, "account-hijack", Critical, [9], Webhook,
        "A pod without the agent's label runs as an agent's account.",
        "Accounts named agent.* are reserved: whoever runs as one is that agent.",
        "label the pod deputy.dev/agent with the agent's name, or use another account";
    AI005, "use-not-authorised", High, [10, 5], Policy,
        "The requester may not run workloads as this agent.",
        "Who runs a pod as an agent holds all the agent's rights; the right to create pods is not the right to be every agent.",
        "ask for verb \"use\" on the AgentIdentity (ClusterRole deputy-agent-user)";
    AI006, "identity-drift", High, [9, 8], Webhook,
        "The agent's label, the stamped identity or the image of an agent's pod changes, or the stamp names another identity.",
        "A pod that was admitted as one agent must not become another, and a pod of a deleted identity must not pass for its successor.",
        "delete the pod and create it again";
    AI008, "managed-account", High, [1, 9], Policy,
        "An agent's ServiceAccount, or its ConfigMap with the broker's CA, is created or changed by hand.",
        "The account is the agent: whoever shapes it shapes the agent's rights; and whoever writes the ConfigMap can pose as the broker.",
        "change the AgentIdentity instead";
    AI009, "suspended", High, [1], Both,
        "A suspended agent is to start, or to get a token.",
        "A suspension is off for everybody, the node that would renew the agent's token included.",
        "delete the AgentSuspension to switch the agent on again";
    AI101, "automount", High, [5, 7], Webhook exceptable Warn,
        "The Kubernetes API token is mounted automatically.",
        "The automatic token serves the Kubernetes API and is honoured for up to a year.",
        "set automountServiceAccountToken: false, and kubernetesAPIAccess: Token on the AgentIdentity if the agent needs the API";
    AI102, "api-audience", High, [4, 5], Webhook exceptable Warn,
        "A projected token is one for the Kubernetes API.",
        "An empty audience means the API server's own: the token is a Kubernetes credential.",
        "name the audience that is to accept the token, or set kubernetesAPIAccess: Token on the AgentIdentity";
    AI103, "token-lifetime", High, [7], Webhook exceptable Warn,
        "A projected token lives longer than an hour, or shorter than ten minutes.",
        "A stolen token is good until it expires; and 3607 seconds at the API server's audience are extended to a year.",
        "set expirationSeconds to 600..3600";
    AI104, "audience", High, [9, 5], Webhook exceptable Warn,
        "A projected token has an audience that the AgentIdentity does not declare.",
        "The list of audiences is the list of services that may meet this agent.",
        "add the audience to spec.tokens of the AgentIdentity";
    AI105, "legacy-token", Critical, [7, 2], Policy,
        "A Secret holds a ServiceAccount token of an agent.",
        "Such tokens never expire and are bound to nothing.",
        "use the projected tokens the AgentIdentity declares";
    AI106, "token-request", Critical, [10, 7], Policy,
        "Somebody requests a token of an agent's account.",
        "Only the kubelet that runs an agent's pod needs the agent's tokens.",
        "run a pod labelled for the agent; its tokens are projected into it";
    AI107, "intra-pod-exposure", Medium, [8, 2], Webhook exceptable AllowOrWarn,
        "A credential of the pod is within reach of a second container.",
        "A token has one consumer; a sidecar that can read it is the agent too.",
        "give the credential to one container (annotation deputy.dev/container), without subPath and without shareProcessNamespace";
    AI108, "counterfeit-token-mount", High, [4], Webhook,
        "Something else is mounted where Kubernetes or Deputy put tokens, or what leads to the broker is missing or another's.",
        "Clients trust those paths and variables: they decide who a client is, and whom it hands its tokens.",
        "mount it elsewhere and leave DEPUTY_ISSUER, DEPUTY_TOKEN_FILE and DEPUTY_CA_FILE out; /var/run/secrets/kubernetes.io/serviceaccount and /var/run/secrets/deputy.dev are managed";
    AI201, "secret-env", High, [2, 7], Webhook exceptable Warn,
        "A Secret is read into the environment, and the AgentIdentity does not declare it so.",
        "A static key in the environment reaches every child process, crash dump and debug page.",
        "use a token the AgentIdentity declares, or declare the Secret in its spec.credentials: keys, delivery and an end";
    AI202, "secret-volume", High, [7], Webhook exceptable Warn,
        "A Secret is mounted as a file, and the AgentIdentity does not declare it so.",
        "A static key has no end, no audience and no holder.",
        "use a token the AgentIdentity declares, or declare the Secret in its spec.credentials: keys, delivery and an end";
    AI203, "pull-secret", Low, [9, 7], Webhook exceptable Warn,
        "The pod pulls images with a Secret the AgentIdentity does not list.",
        "Pull secrets are registry credentials; an agent gets its own list, never the default account's.",
        "list it under spec.serviceAccount.imagePullSecrets of the AgentIdentity";
    AI204, "storage-credential", High, [7, 9], Webhook exceptable AllowOrWarn,
        "A volume or a Windows account carries a storage or domain credential.",
        "In-tree volume secrets, host keyrings and GMSA specs are shared static credentials by another name.",
        "use a PersistentVolumeClaim whose driver authenticates by itself";
    AI205, "csi-inline", High, [2, 9], Webhook exceptable AllowOrWarn,
        "An inline CSI volume can deliver credentials.",
        "Secret-store drivers hand out static keys, and every inline driver receives the pod's tokens.",
        "use a PersistentVolumeClaim, or have the platform team allow the driver (chart value admission.allowedCSIDrivers)";
    AI206, "literal-key", Critical, [2, 7], Webhook exceptable AllowOrWarn,
        "The pod's spec holds a key, a token, a private key or a URL with a password in clear text.",
        "Whoever may read pods reads it, and so do etcd backups and every log that prints a spec.",
        "remove it and rotate the key: it has left its owner";
    AI207, "literal-in-metadata", High, [2], Webhook exceptable Warn,
        "A label or annotation holds a key, a token, a private key or a URL with a password in clear text.",
        "Metadata is the widest-read part of an object.",
        "remove it and rotate the key: it has left its owner";
    AI212, "unknown-source", High, [4], Webhook exceptable AllowOrWarn,
        "The pod uses a volume, projection or environment source this version does not know.",
        "What is not known may be a credential; Kubernetes adds such sources over time.",
        "remove it, upgrade Deputy, or have the platform team list it (chart value admission.knownKinds)";
    AI301, "shared-secret", Critical, [9], Webhook,
        "The pod names a Secret that another identity holds, or that its own does not hold yet.",
        "Two agents with one key are one principal to whoever accepts the key: nobody can say which of them acted.",
        "give each agent a credential of its own; kubectl get credentialclaims shows who holds what";
    AI302, "shared-cloud-role", Critical, [9, 6], Controller,
        "The identity declares a cloud role that another identity holds.",
        "A role two agents can take is one principal to the cloud.",
        "give each agent a role of its own; until then the annotation is not written to the account";
    AI304, "pod-certificate", High, [4, 9], Webhook exceptable AllowOrWarn,
        "The pod projects a pod certificate.",
        "A certificate is an identity too, and an AgentIdentity cannot declare one yet.",
        "use a token the AgentIdentity declares";
    AI401, "host-access", Critical, [8, 6], Webhook exceptable AllowOrWarn,
        "The pod reaches into its node.",
        "Who reads the node's files, processes or network reads the tokens of every pod on it.",
        "remove the host access; an agent needs none";
    AI501, "interactive-access", High, [10], Policy exceptable Allow,
        "Somebody enters an agent's pod: exec, attach, port-forward or proxy.",
        "Whoever is inside holds what the agent holds, and acts as it without being it.",
        "debug elsewhere, or have the platform team write an AgentException for AI501";
    AI502, "debug-container", Critical, [10, 2], Webhook exceptable AllowOrWarn,
        "A debug container can reach the agent's credentials.",
        "Whoever attaches to it holds what the agent holds.",
        "debug without volumes, Secrets and --target, in a pod that does not share its process namespace";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_sorted_and_unique_and_texts_are_complete() {
        let ids: Vec<_> = rules().iter().map(|rule| rule.id).collect();
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(ids, sorted);
        for rule in rules() {
            assert!(rule.title.ends_with('.') && rule.why.ends_with('.'), "{}", rule.id);
            assert!(!rule.remedy.ends_with('.'), "{}: the remedy is a clause", rule.id);
            assert!(rule.nhi.iter().all(|n| (1..=10).contains(n)), "{}", rule.id);
        }
    }
}
