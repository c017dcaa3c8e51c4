//! Checks of README and docs: every session in them is run, and the command must print the lines
//! that they show.
//!
//! In every document a block marked `console` is a session: `$ cpreg …`, optionally with `< FILE`
//! and `> FILE`, `$ cargo run --example …`, or `$ echo $?`. The lines after each command are its
//! output, then its errors. A line `[…]` stands for any lines, and `[…]` at the end of a line for
//! the rest of it. The sessions of a document run one after another in their own
//! folder, with the example files that docs/README.md lists.
//!
//! The README's picture is drawn from the output of its command.
//!
//! `cargo xtask bless` (or `BLESS=1`) rewrites the lines after commands, except around `[…]`, and
//! the picture.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::fixtures::unpack_file;
use crate::picture;
use crate::run::{Run, command, cpreg, cpreg_in};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns README.md and everything below docs/, as paths in the repository.
fn documents() -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("README.md")];
    let mut folders = vec![PathBuf::from("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(repository().join(&folder)).expect("a folder") {
            let name = folder.join(entry.expect("an entry").file_name());
            if repository().join(&name).is_dir() {
                folders.push(name);
            } else if name.extension().is_some_and(|suffix| suffix == "md") {
                found.push(name);
            }
        }
    }
    found.sort();
    found
}

/// Returns the files in docs/README.md's table of examples, by name and origin.
fn examples() -> Vec<(String, PathBuf)> {
    let text = read(&repository().join("docs/README.md"));
    let (_, table) = text
        .split_once("## The example files")
        .expect("the table of examples");
    let rows = table.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('`');
        let (name, from) = (cells.next()?, cells.nth(1)?);
        Some((name.to_owned(), repository().join(from)))
    });
    let rows: Vec<_> = rows.collect();
    assert!(rows.len() > 5, "the table of examples is gone");
    rows
}

fn folder_with_examples() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, from) in examples() {
        let bytes = if from.extension().is_some_and(|suffix| suffix == "xz") {
            unpack_file(&from)
        } else {
            fs::read(&from).unwrap_or_else(|error| panic!("{}: {error}", from.display()))
        };
        fs::write(folder.path().join(name), bytes).expect("a file in it");
    }
    folder
}

/// Runs every session of a document. Returns the document with the actual output.
fn run_sessions(text: &str) -> String {
    let folder = folder_with_examples();
    let mut rewritten = String::new();
    let mut lines = text.lines().peekable();
    let mut in_session = false;
    let mut status = None;
    while let Some(line) = lines.next() {
        let _ = writeln!(rewritten, "{line}");
        if line.starts_with("```") {
            in_session = line == "```console";
            continue;
        }
        let Some(command_line) = line.strip_prefix("$ ").filter(|_| in_session) else {
            continue;
        };
        let mut shown = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with("$ ") && *line != "```") {
            shown.push(line);
        }
        let printed = if command_line == "echo $?" {
            let status: i32 = status.expect("a command before it");
            format!("{status}\n")
        } else {
            let run = run_line(folder.path(), command_line);
            status = run.status;
            format!("{}{}", run.stdout, run.stderr)
        };
        let printed: Vec<&str> = printed.lines().collect();
        let result = if is_shown(&shown, &printed) {
            shown
        } else {
            printed
        };
        for line in result {
            let _ = writeln!(rewritten, "{line}");
        }
    }
    rewritten
}

/// Runs a line of a session.
fn run_line(folder: &Path, command_line: &str) -> Run {
    let words = split_words(command_line);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["cpreg", arguments @ .., "<", from, ">", to] => {
            let output = command(folder, arguments)
                .stdin(fs::File::open(folder.join(from)).expect("a file"))
                .stdout(fs::File::create(folder.join(to)).expect("a file"))
                .output();
            Run::from_output(arguments, &output.expect("the command starts"))
        }
        ["cpreg", arguments @ ..] => cpreg_in(folder, arguments),
        ["cargo", "run", "--example", name, "--", arguments @ ..] => {
            let output = Command::new(example(name))
                .args(arguments)
                .current_dir(folder)
                .output();
            Run::from_output(arguments, &output.expect("the example starts"))
        }
        _ => panic!("`{command_line}` is no run of cpreg"),
    }
}

/// Returns the program of an example. cargo builds it for all tests of the crate, and not for
/// `--test cli` alone.
pub(crate) fn example(name: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_cpreg"));
    program.with_file_name("examples").join(name)
}

/// Splits a command line into words, as a shell does. Words in single quotes are kept together.
fn split_words(command_line: &str) -> Vec<String> {
    let parts = command_line.split('\'').enumerate();
    let words = parts.flat_map(|(number, part)| {
        if number % 2 == 1 {
            vec![part.to_owned()]
        } else {
            part.split_whitespace().map(str::to_owned).collect()
        }
    });
    words.collect()
}

/// Returns `true` if the shown lines match the printed ones. `[…]` matches any lines, or the rest
/// of a line.
fn is_shown(shown: &[&str], printed: &[&str]) -> bool {
    match shown.split_first() {
        None => printed.is_empty(),
        Some((&"[…]", rest)) => (0..=printed.len()).any(|from| is_shown(rest, &printed[from..])),
        Some((line, rest)) => {
            let is_line = |printed: &&str| match line.strip_suffix("[…]") {
                Some(start) => printed.starts_with(start),
                None => printed == line,
            };
            printed.first().is_some_and(is_line) && is_shown(rest, &printed[1..])
        }
    }
}

/// Checks that each task takes at most three commands, and that README.md names all of them.
#[test]
fn every_task_takes_three_commands() {
    let text = read(&repository().join("docs/tasks.md"));
    let readme = read(&repository().join("README.md"));
    assert!(readme.contains("](docs/tasks.md)"));
    let tasks: Vec<&str> = text.split("\n## ").skip(1).collect();
    assert_eq!(tasks.len(), 5);
    for task in tasks {
        let commands = task.lines().filter_map(|line| line.strip_prefix("$ "));
        let commands: Vec<&str> = commands.filter(|line| !line.starts_with("echo ")).collect();
        assert!((1..=3).contains(&commands.len()), "{commands:?}");
        for line in commands {
            let words = split_words(line);
            assert!(
                words[0] == "cargo" || readme.contains(&format!("[`cpreg {}`]", words[1])),
                "README.md does not name `{line}`"
            );
        }
    }
}

/// Checks that docs/tasks.md shows the example of a library user, of 40 lines, and the tolerance.
#[test]
fn the_example_of_a_program_is_current() {
    let path = "examples/check_vm.rs";
    let code = read(&repository().join(path));
    let count = code.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(count <= 40, "{count} lines");
    let text = read(&repository().join("docs/tasks.md"));
    let (_, rest) = text.split_once("```rust\n").expect("the program");
    let (shown, _) = rest.split_once("```").expect("its end");
    assert_eq!(shown, code, "docs/tasks.md does not show {path}");
    let tolerance = read(&repository().join("docs/examples/caches.toml"));
    assert!(text.contains(&format!("```toml\n{tolerance}```")));
}

#[test]
fn sessions_are_current() {
    let mut wrong = Vec::new();
    let mut sessions = 0;
    for document in documents() {
        let path = repository().join(&document);
        let text = read(&path);
        sessions += text.matches("\n```console\n").count();
        if !text.contains("\n```console\n") {
            continue;
        }
        let rewritten = run_sessions(&text);
        if rewritten == text {
            continue;
        }
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, rewritten).expect("the document can be written");
        } else {
            let line = text
                .lines()
                .zip(rewritten.lines())
                .position(|(a, b)| a != b);
            wrong.push(format!("{}:{}", document.display(), line.unwrap_or(0) + 1));
        }
    }
    assert!(
        wrong.is_empty(),
        "not what the command prints, from these lines on: {wrong:#?}; if the output is right: cargo xtask bless"
    );
    assert!(sessions > 10, "only {sessions} sessions are left");
}

/// Shortens the names of recorded streams: `kvm/6.12.107__….stream.xz` becomes
/// `6.12.107….stream.xz`.
fn shorten_names(text: &str) -> String {
    let shorten = |word: &str| {
        let name = word.rsplit('/').next().unwrap_or(word);
        match name.split_once("__") {
            Some((kernel, rest)) => {
                let suffix = rest.find(".converted").or(rest.find(".stream"));
                let suffix = suffix.unwrap_or(rest.len());
                format!("{kernel}…{}", &rest[suffix..])
            }
            None => word.to_owned(),
        }
    };
    let lines = text.split('\n').map(|line| {
        let words: Vec<_> = line.split(' ').map(shorten).collect();
        words.join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Picture in the README.
const PICTURE: &str = "docs/report.svg";

/// Runs the README's first command, for which users need only a clone of the repository, and
/// compares its output with the picture.
#[test]
fn readme_session_is_current() {
    let text = read(&repository().join("README.md"));
    let blocks = text.split("```").skip(1).step_by(2);
    let commands: Vec<&str> = blocks
        .filter_map(|block| block.strip_prefix("sh\n"))
        .collect();
    let [check, test] = commands.as_slice() else {
        panic!("README.md must have two commands, not {commands:#?}");
    };
    assert_eq!(*test, "cargo xtask test\n");
    let check = check.replace("\\\n", " ");
    let words: Vec<&str> = check.split_whitespace().collect();
    let ["cargo", "run", "--release", "--", arguments @ ..] = words.as_slice() else {
        panic!("not a run of cpreg: {check}");
    };
    let output = command(&repository(), arguments)
        .output()
        .expect("the command starts");
    let run = Run::from_output(arguments, &output);
    assert_eq!(run.status, Some(0), "{run}");
    assert!(text.contains(&format!("]({PICTURE})")));
    let typed = arguments
        .iter()
        .fold("cpreg".to_owned(), |typed, argument| typed + " " + argument);
    let drawn = picture::draw(&shorten_names(&typed), &shorten_names(&run.stdout));
    let path = repository().join(PICTURE);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, drawn).expect("the picture can be written");
    } else {
        assert!(
            fs::read_to_string(&path).is_ok_and(|shown| shown == drawn),
            "{PICTURE} does not show what the command prints: cargo xtask bless"
        );
    }
}

/// Checks the numbers and names of recorded hosts in the documents.
#[test]
fn counts_of_recorded_hosts_are_current() {
    const NUMBERS: [&str; 16] = [
        "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
        "twelve", "thirteen", "fourteen", "fifteen", "sixteen",
    ];
    let report = cpreg(&["hosts", "--format", "json"]).json();
    let hosts = report["hosts"].as_array().expect("a list");
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    let mut kernels: Vec<String> = hosts
        .iter()
        .map(|host| text(&host["kernel"]["version"]))
        .collect();
    kernels.dedup();
    let mut cpus: Vec<String> = hosts.iter().map(|host| text(&host["cpu"])).collect();
    cpus.sort();
    cpus.dedup();
    let with_mode = hosts.iter().filter(|host| !host["mode"].is_null());
    let mut modes: Vec<String> = with_mode
        .map(|host| format!("`{}+{}`", text(&host["cpu"]), text(&host["mode"])))
        .collect();
    modes.sort();
    modes.dedup();
    let series = |version: &str| version.rsplit_once('.').expect("a release").0.to_owned();
    let (first, last) = (&kernels[0], &kernels[kernels.len() - 1]);
    let (first_series, last_series) = (series(first), series(last));
    let count = hosts.len();
    let kernel_count = NUMBERS[kernels.len() - 1];
    let cpu_count = NUMBERS[cpus.len() - 1];
    for (document, sentence) in [
        (
            "README.md",
            format!("{count} recorded hosts, Linux {first_series} to {last_series}"),
        ),
        (
            "docs/operators-guide.md",
            format!("cpreg comes with {count} recorded hosts"),
        ),
        (
            "docs/facts.md",
            format!("holds {count} hosts, recorded by `cpreg probe kvm` on {kernel_count}"),
        ),
        (
            "docs/commands/explain.md",
            format!("Kernels of Debian from {first} to {last}"),
        ),
        (
            "docs/commands/explain.md",
            format!("real kernels (Linux {first_series} to {last_series},"),
        ),
        (
            "CHANGELOG.md",
            format!(
                "{count} hosts, with {kernel_count} kernels on {cpu_count} emulated CPU models"
            ),
        ),
        (
            "CHANGELOG.md",
            format!("which of {kernel_count} recorded kernels"),
        ),
    ] {
        let text = read(&repository().join(document));
        let words: Vec<&str> = text.split_whitespace().collect();
        assert!(
            words.join(" ").contains(&sentence),
            "{document} does not say: {sentence}"
        );
    }
    let explain = read(&repository().join("docs/commands/explain.md"));
    let (_, section) = explain
        .split_once("### Recorded kernels")
        .expect("a section");
    let (section, _) = section.split_once("```").expect("its session");
    let missing: Vec<_> = cpus
        .iter()
        .chain(&modes)
        .filter(|name| !section.contains(*name))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/commands/explain.md does not name {missing:?}"
    );
}

/// Checks that docs/tolerances.md names every register of the table.
#[test]
fn every_tolerance_is_explained() {
    let text = read(&repository().join("docs/tolerances.md"));
    let table = cpreg(&["tolerances", "--format", "json"]).json();
    let entries = table["tolerances"].as_array().expect("a list");
    let names = entries
        .iter()
        .flat_map(|entry| entry["registers"].as_array().expect("a list"))
        .map(|name| name.as_str().expect("text"));
    let missing: Vec<&str> = names
        .filter(|name| {
            // Names of whole classes, `the performance monitors`, are used as they are.
            let quoted = if name.contains(' ') {
                (*name).to_owned()
            } else {
                format!("`{name}`")
            };
            !text.contains(&quoted)
        })
        .collect();
    assert!(missing.is_empty(), "not explained: {missing:?}");
}

/// Checks that cpreg accepts the example file and the one shown in docs/tolerances.md, where a
/// session shows its effect.
#[test]
fn example_of_tolerances_is_accepted() {
    let text = read(&repository().join("docs/examples/tolerances.toml"));
    let document = read(&repository().join("docs/tolerances.md"));
    assert!(document.contains(&format!("```toml\n{text}```")));
    let arguments = ["tolerances", "--format", "json", "--tolerances"];
    let arguments = [&arguments[..], &["docs/examples/tolerances.toml"]].concat();
    let run = cpreg_in(&repository(), &arguments);
    assert_eq!(run.status, Some(0), "{run}");
    let table = run.json();
    let entries = table["tolerances"].as_array().expect("a list").iter();
    let of_operator = entries.take_while(|entry| entry["is_operator_entry"] == true);
    assert_eq!(of_operator.count(), text.matches("[[tolerance]]").count());
}

/// Checks that every link between documents leads to an existing file.
#[test]
fn links_lead_to_existing_files() {
    let mut broken = Vec::new();
    let mut links = 0;
    let at_the_root =
        ["CHANGELOG.md", "COMPARE.md", "CONTRIBUTING.md", "DESIGN.md"].map(PathBuf::from);
    for document in documents().into_iter().chain(at_the_root) {
        let text = read(&repository().join(&document));
        for link in text.split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap_or_default();
            if target.is_empty() || target.starts_with("http") {
                continue;
            }
            links += 1;
            let folder = document.parent().unwrap_or(Path::new(""));
            if !repository().join(folder).join(target).exists() {
                broken.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(links > 20, "only {links} links are left");
}

/// Checks that SECURITY.md names tests that exist: `` `name` … (`file`) ``.
#[test]
fn the_tests_of_the_promises_exist() {
    let text = read(&repository().join("SECURITY.md"));
    let (_, text) = text
        .split_once("## What cpreg promises")
        .expect("the promises");
    let (text, _) = text.split_once("## What cpreg does not").expect("the rest");
    let mut names: Vec<&str> = Vec::new();
    let mut checked = 0;
    for quoted in text.split('`').skip(1).step_by(2) {
        let suffix = Path::new(quoted).extension();
        if suffix.is_some_and(|suffix| suffix == "rs") {
            assert!(!names.is_empty(), "{quoted} has no test");
            let source = read(&repository().join(quoted));
            for name in names.drain(..) {
                assert!(
                    source.contains(&format!("fn {name}(")),
                    "{quoted} has no test {name}"
                );
                checked += 1;
            }
        } else if quoted.contains('_') && !quoted.contains(['/', ' ', '.']) {
            names.push(quoted);
        }
    }
    assert!(names.is_empty(), "without a file: {names:?}");
    assert!(checked > 30, "{checked} tests");
}
