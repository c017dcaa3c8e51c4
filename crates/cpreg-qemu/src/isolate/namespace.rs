//! Empty network namespace for QEMU, in which a tap device reaches no network.
//!
//! `unshare` of util-linux creates the namespace. Root needs only a network namespace and keeps
//! root's access to files. Any other user needs a user namespace too, in which the user is root.
//! The namespace and its tap disappear when QEMU exits.

use std::process::{Command, Stdio};

/// Prefix of a command that root runs in a new namespace.
const ROOT_COMMAND: &[&str] = &["unshare", "--net", "--"];

/// Prefix of a command that any other user runs in a new namespace.
const USER_COMMAND: &[&str] = &["unshare", "--user", "--map-root-user", "--net", "--"];

/// Command that tests if `/dev/net/tun` may be opened; the namespace's root may then create a tap.
const TUN_TEST_COMMAND: &[&str] = &["sh", "-c", ": <>/dev/net/tun"];

/// Returns the prefix that runs a command in an empty network namespace with taps. Runs a test in
/// such a namespace first.
///
/// # Errors
/// The message of the failed test run.
pub fn probe_namespace() -> Result<&'static [&'static str], String> {
    let mut reason = String::new();
    for words in [ROOT_COMMAND, USER_COMMAND] {
        match run_tun_test(words) {
            Ok(()) => return Ok(words),
            Err(message) => reason = message,
        }
    }
    Err(reason)
}

fn run_tun_test(words: &[&str]) -> Result<(), String> {
    let Some((program, arguments)) = words.split_first() else {
        return Ok(());
    };
    let output = Command::new(program)
        .args(arguments)
        .args(TUN_TEST_COMMAND)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start `{program}`: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(if stderr.is_empty() {
        format!("`{}` exited with {}", words.join(" "), output.status)
    } else {
        stderr
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_the_message_of_the_command() {
        let error = run_tun_test(&[
            "sh",
            "-c",
            "echo 'unshare failed: Operation not permitted' >&2; exit 1",
            "sh",
        ]);
        assert_eq!(
            error,
            Err("unshare failed: Operation not permitted".to_owned())
        );
        let error = run_tun_test(&["/nonexistent/unshare"]).unwrap_err();
        assert!(
            error.starts_with("cannot start `/nonexistent/unshare`: "),
            "{error}"
        );
        assert_eq!(
            run_tun_test(&["sh", "-c", "exit 3", "sh"]),
            Err("`sh -c exit 3 sh` exited with exit status: 3".to_owned())
        );
        assert_eq!(run_tun_test(&["env", "true"]), Ok(()));
    }
}
