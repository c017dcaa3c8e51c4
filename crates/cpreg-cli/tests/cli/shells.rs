//! Completion in real shells, and man pages in a real formatter.
//!
//! The tests need bash, zsh, fish and mandoc, and fail without them. `cargo xtask test` installs
//! them on Debian.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::run::{command, cpreg_in};

/// Part of a host's name, and the only host that begins with it.
const PARTIAL_HOST: &str = "linux-6.12.107/neoverse-v";
const HOST: &str = "linux-6.12.107/neoverse-v1";

/// Returns a folder with the program `cpreg`, and the value of PATH that begins with it.
fn folder_with_program() -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = folder.path().join("cpreg");
    symlink(env!("CARGO_BIN_EXE_cpreg"), program).expect("a link in it");
    let path = env::var("PATH").expect("PATH is set");
    let path = format!("{}:{path}", folder.path().display());
    (folder, path)
}

/// Runs a script in a shell without the user's settings, and returns its output.
fn run_script(shell: &str, options: &[&str], script: &str) -> String {
    let (folder, path) = folder_with_program();
    let completions = cpreg_in(folder.path(), &["completions", shell]);
    assert_eq!(completions.status, Some(0), "{completions}");
    fs::write(folder.path().join("_cpreg"), &completions.stdout).expect("a file in it");
    fs::write(folder.path().join(".zshrc"), ZSHRC).expect("a file in it");
    fs::write(folder.path().join("script"), script).expect("a file in it");
    // A shell that waits for an answer would wait for ever.
    let output = Command::new("timeout")
        .args(["120", shell])
        .args(options)
        .arg("script")
        .current_dir(folder.path())
        .env("PATH", path)
        .env("HOME", folder.path())
        .env("ZDOTDIR", folder.path())
        .env("TERM", "dumb")
        .stdin(Stdio::null())
        .output()
        .expect("the shell starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_ne!(
        output.status.code(),
        Some(127),
        "this test needs {shell}: apt-get install {shell}"
    );
    assert!(output.status.success(), "{shell}: {}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "", "{shell}");
    text(&output.stdout)
}

/// Calls the completion function of bash as the shell does for the Tab key.
const BASH_SCRIPT: &str = r#"
source ./_cpreg
complete_words() {
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_TYPE=9; COMPREPLY=()
    "$function" cpreg "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    printf '%s\n' "${COMPREPLY[@]}" --
}
registration=$(complete -p cpreg)
[[ $registration =~ -F\ ([a-z_]+) ]] && function=${BASH_REMATCH[1]}
complete_words cpreg hosts linux-6.12.107/neoverse-v
complete_words cpreg check vm linux-6.12.107/neoverse-n1/
complete_words cpreg show vm --register tcr2_el
complete_words cpreg check vm host --accept me
complete_words cpreg check vm host --loader qemu-1
complete_words cpreg check _cp
complete_words cpreg convert linux-6.12
complete_words cpreg rel
"#;

#[test]
fn bash_completes_names() {
    let output = run_script("bash", &["--norc", "--noprofile"], BASH_SCRIPT);
    let answers: Vec<Vec<&str>> = output
        .split("--\n")
        .map(|answer| answer.lines().collect())
        .collect();
    let [
        host,
        features,
        register,
        severity,
        loader,
        file,
        vm,
        command,
        rest,
    ] = &answers[..]
    else {
        panic!("{output}");
    };
    assert_eq!(*host, [HOST]);
    assert!(
        features.contains(&"linux-6.12.107/neoverse-n1/pmu"),
        "{features:?}"
    );
    assert_eq!(*register, ["TCR2_EL1", "TCR2_EL2"]);
    assert_eq!(severity[0], "medium");
    assert!(
        loader.contains(&"qemu-10.0") && !loader.contains(&"qemu-7.2"),
        "{loader:?}"
    );
    assert_eq!(*file, ["_cpreg"]);
    // A host has no RAM to convert.
    assert!(vm.is_empty(), "{vm:?}");
    assert_eq!(*command, ["relay"]);
    assert!(rest.is_empty());
}

/// Loads the script as zsh loads it from a folder of `fpath`.
const ZSHRC: &str = "\
PS1='READY> '
fpath=($ZDOTDIR $fpath)
autoload -Uz compinit && compinit -u -d $ZDOTDIR/dump
";

/// Types part of a name and the Tab key into a zsh in a pseudo terminal, and then ends the line.
/// The second Tab uses the function that the first has defined.
const ZSH_SCRIPT: &str = r"
zmodload zsh/zpty
zpty shell zsh -d -i
zpty -r shell output '*READY> *' || exit 1
for line in 1 2; do
    zpty -n -w shell $'cpreg hosts linux-6.12.107/neoverse-v\t'
    zpty -r shell output '*neoverse-v1*' || exit 1
    zpty -n -w shell $'\n'
    zpty -r shell output '*emulated*READY> *' || exit 1
    print completed
done
zpty -d shell
";

#[test]
fn zsh_completes_a_host() {
    let output = run_script("zsh", &["-d", "-f"], ZSH_SCRIPT);
    assert_eq!(output, "completed\ncompleted\n");
}

const FISH_SCRIPT: &str = "\
source ./_cpreg
complete -C 'cpreg hosts linux-6.12.107/neoverse-v'
complete -C 'cpreg check vm host --accept med'
complete -C 'cpreg check vm host --loader=qemu-5'
";

#[test]
fn fish_completes_names() {
    let output = run_script("fish", &["--no-config"], FISH_SCRIPT);
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines, [HOST, "medium", "--loader=qemu-5.2"]);
}

/// Checks that the completed name is that of a host.
#[test]
fn the_completed_host_exists() {
    assert!(HOST.starts_with(PARTIAL_HOST) && BASH_SCRIPT.contains(PARTIAL_HOST));
    let run = cpreg_in(Path::new("."), &["hosts", HOST]);
    assert_eq!(run.status, Some(0), "{run}");
}

/// Checks that an environment variable of other programs, clap's default, changes nothing.
#[test]
fn other_variables_start_no_completion() {
    let output = command(Path::new("."), &["--version"])
        .env("COMPLETE", "bash")
        .output()
        .expect("the command starts");
    let version = String::from_utf8_lossy(&output.stdout);
    assert_eq!(version, format!("cpreg {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn man_pages_pass_mandoc() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = cpreg_in(folder.path(), &["__man-pages", "man"]);
    assert_eq!(run.status, Some(0), "{run}");
    let pages = fs::read_dir(folder.path().join("man")).expect("a folder");
    let mut pages: Vec<_> = pages.map(|page| page.expect("an entry").path()).collect();
    pages.sort();
    let names: Vec<_> = pages
        .iter()
        .map(|page| page.file_stem().expect("a name").to_string_lossy())
        .collect();
    for name in [
        "cpreg",
        "cpreg-check",
        "cpreg-probe-kvm",
        "cpreg-completions",
    ] {
        assert!(names.iter().any(|other| other == name), "{names:?}");
    }
    assert!(names.iter().all(|name| !name.contains("__")), "{names:?}");
    let lint = Command::new("mandoc")
        .args(["-T", "lint", "-W", "all"])
        .args(&pages)
        .output()
        .expect("this test needs mandoc: apt-get install mandoc");
    let findings = String::from_utf8_lossy(&lint.stdout);
    assert!(lint.status.success() && findings.is_empty(), "{findings}");
    let shown = Command::new("mandoc")
        .args(["-T", "utf8"])
        .arg(folder.path().join("man/cpreg-check.1"))
        .output()
        .expect("mandoc starts");
    let text = String::from_utf8_lossy(&shown.stdout);
    for part in ["--accept", "EXIT STATUS", "SEE ALSO", "cpreg-check"] {
        assert!(without_overstrikes(&text).contains(part), "{part}: {text}");
    }
}

/// Removes the letters before backspaces, with which a formatter makes letters bold.
fn without_overstrikes(text: &str) -> String {
    let mut plain = String::new();
    for letter in text.chars() {
        if letter == '\x08' {
            plain.pop();
        } else {
            plain.push(letter);
        }
    }
    plain
}
