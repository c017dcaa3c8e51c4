//! Runs the command in the folder of the recorded streams, so that its output has no path of this
//! machine.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::Once;
use std::thread;
use std::time::{Duration, Instant};

use crate::models;

/// KVM, neoverse-n1, one vCPU, by kernel.
pub(crate) const KVM_5_10: &str = "kvm/5.10.223__q10.0__neoverse-n1__virt10.0-smp1.stream.xz";
pub(crate) const KVM_6_12: &str = "kvm/6.12.107__q10.0__neoverse-n1__virt10.0-smp1.stream.xz";
pub(crate) const KVM_6_12_Q11_1: &str = "kvm/6.12.107__q11.1__neoverse-n1__virt10.0-smp1.stream.xz";
pub(crate) const KVM_6_16: &str = "kvm/6.16.12__q10.0__neoverse-n1__virt10.0-smp1.stream.xz";
pub(crate) const KVM_6_16_PMU_OFF: &str =
    "kvm/6.16.12__q10.0__neoverse-n1__virt10.0-smp1-pmuoff.stream.xz";
/// KVM with SVE and pointer authentication.
pub(crate) const KVM_6_12_MAX_4: &str = "kvm/6.12.107__q10.0__max__virt10.0-smp4.stream.xz";
pub(crate) const KVM_7_3_MAX: &str = "kvm/7.3.4__q11.1__max__virt10.0-smp1.stream.xz";
/// TCG.
pub(crate) const TCG_5_2_MAX_4: &str = "tcg/q5.2__virt-5.2-max-smp4.stream.xz";
pub(crate) const TCG_7_2: &str = "tcg/q7.2__virt-7.2-cortex-a57-smp1.stream.xz";
pub(crate) const TCG_10_0: &str = "tcg/q10.0__virt-7.2-cortex-a57-smp1.stream.xz";
pub(crate) const TCG_11_1: &str = "tcg/q11.1__virt-7.2-cortex-a57-smp1.stream.xz";
pub(crate) const TCG_11_1_A15: &str = "tcg/q11.1__virt-7.2-cortex-a15-smp1.stream.xz";
pub(crate) const TCG_10_0_MAPPED_RAM: &str =
    "tcg/q10.0__virt-7.2-cortex-a57-smp2-mappedram.stream.xz";

/// Returns the folder of the recorded streams.
pub(crate) fn streams() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/streams")
}

/// Run of the command, as a terminal would show it.
pub(crate) struct Run {
    arguments: String,
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self
            .status
            .map_or("none".to_owned(), |code| code.to_string());
        writeln!(f, "$ cpreg {}", self.arguments)?;
        writeln!(f, "exit status: {status}")?;
        for (name, text) in [("output", &self.stdout), ("errors", &self.stderr)] {
            if !text.is_empty() {
                write!(f, "----- {name} -----\n{text}")?;
            }
        }
        Ok(())
    }
}

impl Run {
    pub(crate) fn from_output(arguments: &[&str], output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let run = Self {
            arguments: arguments.join(" "),
            status: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        };
        if has_json_format(arguments) {
            run.check_document(arguments);
        }
        run
    }

    /// Returns the output without the next steps, whose commands repeat the arguments.
    pub(crate) fn without_steps(&self) -> String {
        match self.stdout.split_once("\nnext: ") {
            Some((begin, rest)) => {
                let (_, end) = rest.split_once("\n\n").expect("the end of the steps");
                format!("{begin}\n{end}")
            }
            None => self.stdout.clone(),
        }
    }

    /// Returns the output with single spaces, as if no line were wrapped.
    pub(crate) fn words(&self) -> String {
        let words: Vec<&str> = self.stdout.split_whitespace().collect();
        words.join(" ")
    }

    /// Checks that a run with `--format json` printed one document, a report or an error, that
    /// matches its schema and its model.
    fn check_document(&self, arguments: &[&str]) {
        // A signal ends a run without a document.
        let Some(status) = self.status else {
            return;
        };
        let is_output = |pair: &[&str]| pair == ["-o", "-"];
        let uses_stdout = arguments[0] == "filter"
            || arguments.contains(&"stdio:")
            || arguments.windows(2).any(is_output);
        let document = if uses_stdout {
            // Notes and log lines are before the document.
            let start = self.stderr.find("{\n");
            start.map_or("", |start| &self.stderr[start..])
        } else {
            self.stdout.as_str()
        };
        if self.stderr.starts_with("error: cannot write to ") {
            // Standard output takes nothing, not even an error.
            assert_eq!((status, document), (2, ""), "{self}");
            return;
        }
        models::round_trip(document);
        let value: serde_json::Value = serde_json::from_str(document).expect("checked above");
        let is_error = value["schema"] == cpreg_report::failure::SCHEMA;
        let has_exit_status = value["schema"] == cpreg_report::relay::model::SCHEMA;
        // A command whose every verdict is unknown ends with an error and that status.
        let can_be_error = matches!(status, 2 | 3);
        assert!(is_error || status != 2 || has_exit_status, "{self}");
        assert!(can_be_error || !is_error, "{self}");
        if is_error || has_exit_status {
            assert_eq!(value["exit_status"], status, "{self}");
        }
    }

    /// Returns the output, a document that [`Self::from_output`] has checked.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in the output of\n{self}"))
    }
}

/// Returns `true` if these arguments of cpreg request a report as JSON.
fn has_json_format(arguments: &[&str]) -> bool {
    let own = arguments.split(|word| *word == "--").next();
    let own = own.unwrap_or_default();
    own.windows(2).any(|pair| pair == ["--format", "json"])
}

/// Returns a document of `cpreg.check` without the members that depend on the typed command.
pub(crate) fn without_command(mut document: serde_json::Value) -> serde_json::Value {
    let members = document.as_object_mut().expect("an object");
    for member in ["next_steps", "next_command", "written"] {
        members.remove(member).expect("a member");
    }
    document
}

/// Resets signal handling of the processes started from here on to that of a terminal.
///
/// A shell that starts the tests in the background makes them ignore SIGINT, and `nohup` SIGHUP.
/// Started processes inherit ignored signals, but not handled ones.
fn reset_signals() {
    static ONCE: Once = Once::new();
    #[expect(clippy::exit, reason = "the tests end when they are told to")]
    ONCE.call_once(|| {
        ctrlc::set_handler(|| std::process::exit(130)).expect("no other handler");
    });
}

/// Returns the command in this folder, without environment variables that change its output.
pub(crate) fn command(folder: &Path, arguments: &[&str]) -> Command {
    reset_signals();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cpreg"));
    command.current_dir(folder).args(arguments);
    remove_influences(&mut command);
    command
}

/// Removes the influences of this machine and its user on the command: environment variables, and
/// default tolerance files.
pub(crate) fn remove_influences(command: &mut Command) {
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS"] {
        command.env_remove(name);
    }
    command
        .env_remove("CPREG_TOLERANCES")
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .env("CPREG_TEST_SYSTEM_TOLERANCES", "/nonexistent/system.toml");
}

/// Runs the command in this folder.
pub(crate) fn cpreg_in(folder: &Path, arguments: &[&str]) -> Run {
    let output = command(folder, arguments)
        .output()
        .expect("the command starts");
    Run::from_output(arguments, &output)
}

/// Runs the command in the folder of the recorded streams.
pub(crate) fn cpreg(arguments: &[&str]) -> Run {
    cpreg_in(&streams(), arguments)
}

/// Waits until a process sleeps: until it uses at most `ticks` ticks in a quarter of a second.
///
/// A busy machine may take long until then. A process that polls never sleeps.
pub(crate) fn wait_until_it_sleeps(child: &Child, ticks: u64) {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let before = processor_time(child);
        thread::sleep(Duration::from_millis(250));
        if processor_time(child) <= before + ticks {
            return;
        }
        assert!(Instant::now() < deadline, "it does not sleep");
    }
}

/// Returns the CPU time in ticks of the system, a hundred per second.
fn processor_time(child: &Child) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("a process");
    let (_, fields) = text.rsplit_once(')').expect("its name");
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let field = |number: usize| -> u64 { fields[number - 3].parse().expect("a number") };
    field(14) + field(15)
}
