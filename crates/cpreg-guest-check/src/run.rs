//! Actions of `guest-check`.

use std::io::Write;

use crate::arguments::GuestCheckArgs;
use crate::check::CheckResult;
use crate::error::Error;

/// Runs an action, and writes its report to `output`.
///
/// # Errors
/// Returns an error if the machine is no arm64 Linux, a record cannot be read or written, or the
/// output fails.
#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
pub fn run(_arguments: &GuestCheckArgs, _output: &mut impl Write) -> Result<CheckResult, Error> {
    Err(Error::WrongMachine)
}

/// Runs an action, and writes its report to `output`.
///
/// # Errors
/// Returns an error if the machine is no arm64 Linux, a record cannot be read or written, or the
/// output fails.
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
pub fn run(arguments: &GuestCheckArgs, output: &mut impl Write) -> Result<CheckResult, Error> {
    use crate::arguments::{Action, Format};
    use crate::judge::{judge, judge_watch};
    use crate::observe::observe;
    use crate::report::GuestCheckReport;
    use crate::system::use_shortest_vectors;
    use crate::watch::watch;

    use_shortest_vectors();
    let (report, file, format) = match &arguments.action {
        Action::Record(arguments) => {
            let state = observe()?;
            let report = GuestCheckReport::new(judge(&state, None), state, None);
            (report, arguments.output.as_ref(), arguments.format)
        }
        Action::Compare(arguments) => {
            let record = GuestCheckReport::read(&arguments.record)?;
            let state = observe()?;
            let checks = judge(&state, Some(&record.state));
            (
                GuestCheckReport::new(checks, state, None),
                None,
                arguments.format,
            )
        }
        Action::Watch(arguments) => {
            let before = observe()?;
            let watched = watch(arguments.milliseconds())?;
            let state = observe()?;
            let mut checks = judge(&state, Some(&before));
            judge_watch(&mut checks, &watched);
            let report = GuestCheckReport::new(checks, state, Some(watched));
            (report, None, arguments.format)
        }
    };
    if let Some(file) = file {
        std::fs::write(file, report.document()?)
            .map_err(|error| Error::io(file.display().to_string(), error))?;
    }
    let written = match format {
        Format::Text => report.write_text(output),
        Format::Json => output.write_all(report.document()?.as_bytes()),
    };
    written
        .and_then(|()| output.flush())
        .map_err(|error| Error::io("standard output", error))?;
    Ok(report.result)
}
