//! Documented rules of Node Feature Discovery for a features file of its local source.
//!
//! | rule | |
//! |---|---|
//! | size | up to 64 KiB |
//! | line | `NAME[=VALUE]`, where NAME is `namespace/name` |
//! | comment | from `#` |
//! | directive | `# +expiry-time=TIME`, RFC 3339 |
//! | namespace | not `kubernetes.io` or below it, except `feature.node.kubernetes.io` |
//! | label | name and value: up to 63 of `[A-Za-z0-9_.-]`, at both ends a letter or digit |

use std::collections::BTreeMap;

use e2e_framework::Result;

/// Namespace below `kubernetes.io` that features may have.
const OWN_NAMESPACE: &str = "feature.node.kubernetes.io";
const MAX_LEN: usize = 64 << 10;

/// Features file.
#[derive(Debug, Default)]
pub(crate) struct FeaturesFile {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) expiry: Option<String>,
}

/// Reads a features file as Node Feature Discovery does.
///
/// # Errors
/// Returns an error if Node Feature Discovery ignores the file or one of its lines.
pub(crate) fn read(text: &str) -> Result<FeaturesFile> {
    if text.len() > MAX_LEN {
        return Err(format!("{} bytes", text.len()).into());
    }
    let mut file = FeaturesFile::default();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix('#') {
            if let Some(directive) = comment.trim_start().strip_prefix('+') {
                let time = directive.strip_prefix("expiry-time=");
                let time = time.ok_or_else(|| format!("not a directive: {directive}"))?;
                check_time(time)?;
                file.expiry = Some(time.to_owned());
            }
            continue;
        }
        let (name, value) = line.split_once('=').unwrap_or((line, "true"));
        let (namespace, own) = name.split_once('/').ok_or("a name without a namespace")?;
        let is_denied = namespace == "kubernetes.io" || namespace.ends_with(".kubernetes.io");
        let is_own =
            namespace == OWN_NAMESPACE || namespace.ends_with(&format!(".{OWN_NAMESPACE}"));
        if is_denied && !is_own {
            return Err(format!("a denied namespace: {namespace}").into());
        }
        if !is_label(own) || !(value.is_empty() || is_label(value)) {
            return Err(format!("not a label: {line}").into());
        }
        file.labels.insert(name.to_owned(), value.to_owned());
    }
    Ok(file)
}

fn is_label(text: &str) -> bool {
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let is_inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    bytes.len() <= 63 && is_end(bytes.first()) && is_end(bytes.last()) && bytes.iter().all(is_inner)
}

/// Checks the form `2026-12-05T00:00:00Z`.
fn check_time(time: &str) -> Result<()> {
    let form = "dddd-dd-ddTdd:dd:ddZ";
    let has_form = time.len() == form.len()
        && time
            .bytes()
            .zip(form.bytes())
            .all(|(byte, form)| match form {
                b'd' => byte.is_ascii_digit(),
                other => byte == other,
            });
    if has_form {
        Ok(())
    } else {
        Err(format!("not a time: {time}").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_nfd_ignores_are_errors() {
        let long = format!("a/{}", "x".repeat(64));
        for text in [
            "name=1",
            "kubernetes.io/a=1",
            "node.kubernetes.io/a=1",
            "a/-b=1",
            "a/b=c d",
            "# +expiry-time=tomorrow",
            "# +expire=1",
            &long,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        let file =
            read("# text\n# +expiry-time=2026-12-05T00:00:00Z\nfeature.node.kubernetes.io/a\n");
        let file = file.expect("a features file");
        assert_eq!(file.expiry.as_deref(), Some("2026-12-05T00:00:00Z"));
        assert_eq!(file.labels["feature.node.kubernetes.io/a"], "true");
    }
}
