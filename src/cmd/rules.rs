//! `deputy rules`: the rule table, for people and as the reference in `docs/rules.md`.

use crate::policy::{Rule, rules};
use clap::Args;

/// The rules pods are held to.
#[derive(Args, Debug)]
pub(super) struct Options {
    /// Print the reference in Markdown
    #[arg(long)]
    markdown: bool,
}

/// The table as text.
pub(super) fn text(options: &Options) -> String {
    if options.markdown {
        return reference();
    }
    let line = |rule: &Rule| {
        let Rule { id, severity, name, title, .. } = rule;
        format!("{id}  {:<8}  {name:<24} {title}\n", severity.as_str())
    };
    rules().iter().copied().map(line).collect()
}

/// `docs/rules.md`.
fn reference() -> String {
    let mut text = "# Rules\n\n\
        Made from the table in the code by `make generate`; `deputy rules` prints it as well. Each rule answers entries \
        of the OWASP Non-Human Identities Top 10 (2025). A refusal names the rule, the place in the pod, what is wrong \
        and what to do; it never shows a value. The last column says what \
        an [AgentException](operations.md#exceptions) may do about the rule.\n\n\
        | rule | name | severity | OWASP NHI | enforced by | exception |\n|---|---|---|---|---|---|\n"
        .to_owned();
    for rule in rules() {
        let Rule { id, name, .. } = rule;
        let anchor = id.to_ascii_lowercase();
        text.push_str(&format!(
            "| [{id}](#{anchor}) | {name} | {} | {} | {} | {} |\n",
            rule.severity.as_str(),
            entries(rule),
            rule.engine.as_str(),
            rule.exceptable.as_str()
        ));
    }
    for rule in rules() {
        text.push_str(&format!(
            "\n## {}\n\n{} {}\n\nWhat to do: {}.\n",
            rule.id, rule.title, rule.why, rule.remedy
        ));
    }
    text
}

fn entries(rule: &Rule) -> String {
    rule.nhi.iter().map(|n| format!("NHI{n}")).collect::<Vec<_>>().join(", ")
}
