//! Whether QEMU can run in a network namespace of its own: empty, so that a tap device can be made in it that reaches
//! nothing.
//!
//! `unshare` of util-linux makes it. Root makes the network namespace alone and stays root towards its files; others
//! make a user namespace too, in which they are root. The namespace, and the tap in it, goes when QEMU ends.

use std::process::{Command, Stdio};

/// What comes before a command to run it there, as root.
const ROOT_COMMAND: &[&str] = &["unshare", "--net", "--"];

/// What comes before a command to run it there, as anybody.
const USER_COMMAND: &[&str] = &["unshare", "--user", "--map-root-user", "--net", "--"];

/// Opening is allowed or not; making the device is then a matter of the namespace's own root.
const TUN_TEST_COMMAND: &[&str] = &["sh", "-c", ": <>/dev/net/tun"];

/// The words that, before a command, run it in an empty network namespace where it can make tap devices. Tries it.
///
/// # Errors
/// Why that is not possible here, in the words of what failed.
pub fn probe_namespace() -> Result<&'static [&'static str], String> {
    let mut reason = String::new();
    for words in [ROOT_COMMAND, USER_COMMAND] {
        match run_tun_test(words) {
            Ok(()) => return Ok(words),
            Err(said) => reason = said,
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
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(if said.is_empty() {
        format!("`{}` ended with {}", words.join(" "), output.status)
    } else {
        said
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_in_its_own_words() {
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
            Err("`sh -c exit 3 sh` ended with exit status: 3".to_owned())
        );
        assert_eq!(run_tun_test(&["env", "true"]), Ok(()));
    }
}
