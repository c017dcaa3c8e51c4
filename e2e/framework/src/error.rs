//! Error type of the framework: text for the user of a task. [`exit_code`] prints it.

use std::process::ExitCode;

/// An error with a message for the user of the task.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Result of a task, or of one step of a task.
pub type Result<T> = std::result::Result<T, Failure>;

/// Returns the exit code of a program, and prints its error. `Ok(false)` stands for failures that
/// are printed already.
pub fn exit_code(result: Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
