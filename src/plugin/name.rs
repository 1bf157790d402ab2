//! Names of the AgentSuspensions the plugin makes.

/// Longest part of a requester's name that is shown in the object's.
const SHOWN: usize = 40;

/// The name of `requester`'s suspension of `agent`, or of every agent of the namespace: `researcher.by-dana-1f0c33e2`,
/// `every.agent.by-dana-1f0c33e2`. Each person has one of his own for each agent, so that asking twice is once, and so
/// that one on-call person's `resume` does not undo another's `suspend`. An agent's name has no dot: the two forms do not
/// meet.
pub fn object_name(agent: Option<&str>, requester: Option<&str>) -> String {
    let whom = agent.unwrap_or("every.agent");
    let Some(requester) = requester else { return format!("{whom}.by-somebody") };
    let mut shown = String::new();
    for c in requester.chars().map(|c| c.to_ascii_lowercase()) {
        if c.is_ascii_alphanumeric() {
            shown.push(c);
        } else if !shown.is_empty() && !shown.ends_with('-') {
            shown.push('-');
        }
        if shown.len() == SHOWN {
            break;
        }
    }
    if !shown.is_empty() && !shown.ends_with('-') {
        shown.push('-');
    }
    format!("{whom}.by-{shown}{:08x}", fnv1a(requester))
}

/// Tells names apart that look the same once they are cut to what an object's name may hold. It need not withstand
/// anybody: what an object of this name says is compared before it is believed.
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_readable_and_ones_own() {
        let dana = object_name(Some("researcher"), Some("dana@example.com"));
        assert!(dana.starts_with("researcher.by-dana-example-com-"), "{dana}");
        assert_eq!(dana, object_name(Some("researcher"), Some("dana@example.com")));
        let others = [
            object_name(Some("researcher"), Some("dana-example-com")),
            object_name(Some("researcher"), Some("Dana@example.com")),
            object_name(Some("every"), Some("dana@example.com")),
            object_name(None, Some("dana@example.com")),
            object_name(Some("researcher"), None),
        ];
        for (i, other) in others.iter().enumerate() {
            assert_ne!(*other, dana);
            assert!(others.iter().skip(i + 1).all(|next| next != other), "{other}");
        }
    }

    #[test]
    fn every_name_is_one_an_object_may_have() {
        let longest = "a".repeat(63);
        let account = format!("system:serviceaccount:{longest}:{}", "b".repeat(253));
        for requester in [&account, "", "...", "日本", "a", "-", "A@B"] {
            for agent in [None, Some(longest.as_str())] {
                let name = object_name(agent, Some(requester));
                assert!(name.len() <= 253, "{name}");
                for label in name.split('.') {
                    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
                    assert!(!label.is_empty() && label.bytes().all(is_inner), "{name}");
                    assert!(!label.starts_with('-') && !label.ends_with('-'), "{name}");
                }
            }
        }
    }
}
