//! The library as the dynamic linker loads it into a program.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// Builds the library, and returns its path. Cargo builds no cdylib for its own tests.
fn library() -> PathBuf {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| {
        let test = std::env::current_exe().expect("the test's path");
        let folder = test.ancestors().nth(2).expect("the folder of the profile");
        let target = folder.parent().expect("the target folder");
        let mut command = Command::new(env!("CARGO"));
        command.args([
            "build",
            "--quiet",
            "--offline",
            "--package",
            "cpreg-interpose",
        ]);
        command.arg("--target-dir").arg(target);
        if folder.ends_with("release") {
            command.arg("--release");
        }
        let status = command.status().expect("cargo");
        assert!(status.success(), "cargo build: {status}");
        folder.join("libcpreg_interpose.so")
    });
    library.clone()
}

const POLICY: &str = r#"{"schema":"cpreg.run-policy/1","receiving":true,"host":{"emulated":false},"source":{"emulated":false}}"#;

fn run(policy: &str) -> std::process::Output {
    run_program(&["/bin/echo", "started"], policy)
}

fn run_program(words: &[&str], policy: &str) -> std::process::Output {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
        .env("LD_PRELOAD", library())
        .env("CPREG_INTERPOSE", policy);
    command.output().expect("a program")
}

#[test]
fn a_program_runs_with_the_library() {
    for policy in ["", "off", POLICY] {
        let output = run(policy);
        assert!(output.status.success(), "{policy}: {output:?}");
        assert_eq!(output.stdout, b"started\n");
        assert!(output.stderr.is_empty(), "{output:?}");
    }
}

/// A VMM starts helpers, which inherit its environment.
#[test]
fn children_run_quietly() {
    let script = "(echo forked); /bin/echo executed; exec /bin/echo replaced";
    let output = run_program(&["/bin/sh", "-c", script], POLICY);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"forked\nexecuted\nreplaced\n");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_broken_policy_prevents_the_start() {
    for policy in [
        "on",
        "{}",
        r#"{"schema":"cpreg.run-policy/9","receiving":true}"#,
    ] {
        let output = run(policy);
        assert_eq!(output.status.code(), Some(1), "{policy}");
        assert!(output.stdout.is_empty());
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.starts_with("cpreg: CPREG_INTERPOSE: "), "{text}");
    }
}

/// Versions of glibc's symbols that the library needs are names in its table of strings.
#[test]
fn the_library_needs_glibc_2_34_at_most() {
    const PREFIX: &[u8] = b"GLIBC_2.";
    let library = std::fs::read(library()).expect("the library");
    let names = library.windows(PREFIX.len()).enumerate();
    let names = names.filter(|(_, window)| *window == PREFIX);
    let minor_versions = names.filter_map(|(start, _)| {
        let digits = library.get(start + PREFIX.len()..)?;
        let digits: Vec<_> = digits
            .iter()
            .copied()
            .take_while(u8::is_ascii_digit)
            .collect();
        String::from_utf8(digits).ok()?.parse::<u32>().ok()
    });
    let newest = minor_versions.max().expect("the library uses glibc");
    assert!(newest <= 34, "GLIBC_2.{newest}");
}
