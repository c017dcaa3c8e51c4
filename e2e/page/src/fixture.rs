//! [`Fixture`]: pages and browser of all cases, with checks of the open page.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use e2e_framework::Result;
use serde_json::{Value, json};

use crate::pages::Pages;
use crate::webdriver::Browser;

/// Timeout for the first paint of a page. Its time is reported, and fails nothing.
const PAINT_TIMEOUT: Duration = Duration::from_secs(60);

/// Symbols in the table, row by row.
const SHOWN_SYMBOLS: &str =
    "Array.from(document.querySelectorAll('#grid tbody td'), it => it.textContent)";

/// Inputs of all cases.
pub(crate) struct Fixture {
    pub(crate) pages: Pages,
    pub(crate) browser: Browser,
    /// Folder for screenshots.
    pub(crate) screenshots: Option<PathBuf>,
}

impl Fixture {
    pub(crate) fn open(&self, name: &str, arguments: &[&str]) -> Result<()> {
        let page = self.pages.write(name, arguments)?;
        self.browser.open(&page)
    }

    pub(crate) fn expect(&self, expression: &str, expected: &Value) -> Result<()> {
        let value = self.browser.evaluate(expression)?;
        if value == *expected {
            return Ok(());
        }
        Err(format!("{expression} is {value}, expected {expected}").into())
    }

    /// Checks that a text has all these parts.
    pub(crate) fn expect_text(&self, expression: &str, parts: &[&str]) -> Result<()> {
        let value = self.browser.evaluate(expression)?;
        let text = value.as_str().unwrap_or_default();
        for part in parts {
            if !text.contains(part) {
                return Err(format!("{expression} lacks {part:?}: {text}").into());
            }
        }
        Ok(())
    }

    /// Returns the milliseconds from the start of loading the page to its first paint.
    pub(crate) fn first_paint(&self) -> Result<f64> {
        let paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null";
        let deadline = Instant::now() + PAINT_TIMEOUT;
        loop {
            if let Some(milliseconds) = self.browser.evaluate(paint)?.as_f64() {
                return Ok(milliseconds);
            }
            if Instant::now() > deadline {
                return Err("the page was not painted".into());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn expect_symbols(&self, expected: impl Iterator<Item = String>) -> Result<()> {
        self.expect(SHOWN_SYMBOLS, &json!(expected.collect::<Vec<_>>()))
    }

    pub(crate) fn keep_screenshot(&self, name: &str) -> Result<()> {
        let picture = self.browser.screenshot()?;
        self.keep(name, &picture)
    }

    pub(crate) fn keep(&self, name: &str, content: &[u8]) -> Result<()> {
        if let Some(folder) = &self.screenshots {
            fs::create_dir_all(folder)?;
            fs::write(folder.join(name), content)?;
        }
        Ok(())
    }
}
