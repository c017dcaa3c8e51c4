//! The HTML pages of `cpreg matrix` and `cpreg fleet` in a headless Chromium: their cells, their
//! keyboard, names with markup, their looks, and the time of their first paint.
//!
//! | module | content |
//! |---|---|
//! | [`webdriver`] | the browser |
//! | [`pages`] | pages of the command under test |
//! | [`fixture`] | what all cases share |
//! | [`cases`] | the cases, and what must hold |
//! | [`fleet`] | those of a fleet |
#![forbid(unsafe_code)]

mod cases;
mod fixture;
mod fleet;
mod pages;
mod webdriver;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use e2e_framework::Result;
use e2e_framework::case_counts::CaseCounts;
use e2e_framework::tool::{self, BROWSER};

use self::cases::CASES;
use self::pages::Pages;
use self::webdriver::Browser;

/// Test the HTML pages of `cpreg matrix` and `cpreg fleet` in a headless Chromium
#[derive(Debug, Parser)]
#[command(name = "page", bin_name = "cargo xtask page", max_term_width = 100)]
struct Arguments {
    /// Keep screenshots and the printed page in this folder
    #[arg(long)]
    screenshots: Option<PathBuf>,
    /// Words that must all occur in the name of a case
    words: Vec<String>,
}

fn main() -> ExitCode {
    e2e_framework::exit_code(run(&Arguments::parse()))
}

/// Runs the selected cases; returns `true` if all succeed.
fn run(arguments: &Arguments) -> Result<bool> {
    let is_selected = |name: &str| arguments.words.iter().all(|word| name.contains(word));
    let cases = CASES.iter().filter(|case| is_selected(case.name));
    let cases: Vec<_> = cases.collect();
    if cases.is_empty() {
        return Err("no case matches".into());
    }
    tool::ensure_installed(&BROWSER)?;
    let pages = Pages::new()?;
    let browser = Browser::start()?;
    let fixture = fixture::Fixture {
        pages,
        browser,
        screenshots: arguments.screenshots.clone(),
    };
    let mut counts = CaseCounts::default();
    for case in &cases {
        counts.run(&case.name, || (case.run)(&fixture));
    }
    Ok(counts.print())
}
