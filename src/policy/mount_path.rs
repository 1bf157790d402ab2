//! Where a mount path leads, and how it lies to the paths clients take tokens from.

/// Where Kubernetes' clients look for a token.
pub(super) const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Where an agent finds what Deputy gives it.
pub(super) const DEPUTY: &str = "/var/run/secrets/deputy.dev";

/// How a mount path lies to a managed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// It contains the managed path.
    Above,
    /// It is the managed path, or lies inside.
    Inside,
    /// Neither contains the other.
    Apart,
}

/// How `path` lies to `managed`, once both are normalised.
pub(super) fn relation(path: &str, managed: &str) -> Relation {
    let (path, managed) = (normalise(path), normalise(managed));
    if path.starts_with(&managed) {
        Relation::Inside
    } else if managed.starts_with(&path) || path == ["var"] {
        Relation::Above
    } else {
        Relation::Apart
    }
}

/// Whether two mount paths lead to the same place.
pub(super) fn same(left: &str, right: &str) -> bool {
    normalise(left) == normalise(right)
}

/// The segments of a path without empty, `.` and `..` ones, with `/var/run` as `/run` (images link the one to the
/// other) and Windows' drive and separators folded.
fn normalise(path: &str) -> Vec<&str> {
    let mut segments = vec![];
    let path = match path.as_bytes() {
        [letter, b':', ..] if letter.is_ascii_alphabetic() => &path[2..],
        _ => path,
    };
    for segment in path.split(['/', '\\']) {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    if segments.starts_with(&["var", "run"]) {
        segments.remove(0);
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_place_are_one_place() {
        for path in [
            "/var/run/secrets/kubernetes.io/serviceaccount",
            "/run/secrets/kubernetes.io/serviceaccount",
            "/var/run/secrets/kubernetes.io/serviceaccount/",
            "//var//run/./secrets/kubernetes.io/serviceaccount",
            "/var/run/secrets/x/../kubernetes.io/serviceaccount",
            "/etc/../var/run/secrets/kubernetes.io/serviceaccount/token",
            r"C:\var\run\secrets\kubernetes.io\serviceaccount",
        ] {
            assert_eq!(relation(path, SERVICE_ACCOUNT), Relation::Inside, "{path}");
        }
        for path in
            ["/", "/var", "/run", "/var/run", "/var/run/secrets", "/run/secrets/kubernetes.io/", "/.."]
        {
            assert_eq!(relation(path, SERVICE_ACCOUNT), Relation::Above, "{path}");
        }
        for path in ["/var/running", "/run/secrets/kubernetes.io2", "/data", "/var/run/secrets/deputy.dev"] {
            assert_eq!(relation(path, SERVICE_ACCOUNT), Relation::Apart, "{path}");
        }
        assert!(same("/run/secrets/deputy.dev/", DEPUTY));
    }
}
