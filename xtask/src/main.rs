//! Task runner.

mod gen_registers;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.split_first() {
        Some((task, rest)) if task == "gen-registers" => gen_registers::run(rest),
        _ => Err("usage: cargo xtask gen-registers [--check]".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            #[expect(clippy::print_stderr, reason = "a task runner talks on standard error")]
            {
                eprintln!("error: {message}");
            }
            ExitCode::FAILURE
        }
    }
}
