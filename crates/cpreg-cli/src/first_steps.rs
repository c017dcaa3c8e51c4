//! Text of `cpreg` without arguments: the first commands to try.

use std::fmt::Write as _;

/// Commands that work on every machine, each with its purpose.
const FIRST_STEPS: [(&str, &str); 3] = [
    (
        "cpreg explain 'Failed to load cpu:cpreg_vmstate_array_len'",
        "explain an error line of a VMM; `cpreg explain --file LOG` reads a log",
    ),
    (
        "cpreg check linux-6.12.107/neoverse-n1/pmu linux-6.16.12/neoverse-n1",
        "predict if a VM of one host loads at another. Instead of the first host, name a saved VM \
         or the monitor socket of its QEMU; instead of the second, a file of `cpreg probe`",
    ),
    (
        "cpreg hosts linux-6.12",
        "list the recorded hosts of a kernel; each name is a host for `cpreg check`",
    ),
];

/// Returns the text.
pub(crate) fn text() -> String {
    let mut text =
        "cpreg moves arm64 virtual machines between hosts that do not expose the same registers.\n"
            .to_owned();
    for (command, purpose) in FIRST_STEPS {
        let _ = write!(text, "\n  {command}\n");
        for line in textwrap::wrap(purpose, 90) {
            let _ = writeln!(text, "      {line}");
        }
    }
    text.push_str("\n`cpreg --help` lists all commands, and `cpreg help COMMAND` its options.\n");
    text
}
