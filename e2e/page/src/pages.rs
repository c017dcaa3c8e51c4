//! [`Pages`]: pages of the command under test, and the same cells as CSV.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, str};

use cpreg_report::matrix::page::model::PageData;
use e2e_framework::Result;
use e2e_framework::cpreg::Cpreg;
use e2e_framework::paths::repository;
use e2e_framework::tool;
use tempfile::TempDir;

/// Recorded VM: Linux 6.12, neoverse-n1, QEMU 10.0.
const STREAM: &str =
    "tests/fixtures/streams/kvm/6.12.107__q10.0__neoverse-n1__virt10.0-smp1.stream.xz";

/// Folder of a VM whose name ends an element of script. A file's name cannot contain the slash.
const MARKUP_FOLDER: &str = "<";
/// File of that VM.
const MARKUP_FILE: &str = "script><img src=x onerror=window.owned=1><b>&amp;";

/// Files in a temporary folder, and the program that makes pages of them.
pub(crate) struct Pages {
    cpreg: Cpreg,
    folder: TempDir,
}

/// Cell of a CSV file.
pub(crate) struct CsvCell {
    pub(crate) symbol: String,
    pub(crate) without_cpreg: String,
}

impl Pages {
    /// Builds the program, and copies the VMs.
    ///
    /// # Errors
    /// Returns an error if the program does not build.
    pub(crate) fn new() -> Result<Self> {
        let cpreg = Cpreg::build()?;
        let folder = TempDir::new()?;
        let stream = repository().join(STREAM);
        fs::copy(&stream, folder.path().join("vm.stream"))?;
        fs::create_dir(folder.path().join(MARKUP_FOLDER))?;
        fs::copy(&stream, folder.path().join(Self::markup_name()))?;
        fs::write(
            folder.path().join("<i>broken</i>".replace('/', "-")),
            "no VM",
        )?;
        Ok(Self { cpreg, folder })
    }

    /// Returns the name of the VM with markup in its name.
    pub(crate) fn markup_name() -> String {
        format!("{MARKUP_FOLDER}/{MARKUP_FILE}")
    }

    /// Runs `cpreg matrix`, and returns its standard output.
    fn matrix(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        self.run(&[&["matrix"], arguments].concat())
    }

    /// Runs the program, and returns its standard output.
    fn run(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let mut command = Command::new(self.cpreg.program());
        command.current_dir(self.folder.path());
        command.args(arguments).env("NO_COLOR", "1");
        let output = command.output()?;
        match output.status.code() {
            Some(0 | 3) => Ok(output.stdout),
            _ => Err(format!(
                "`{}`: {}\n{}",
                tool::format_command(&command),
                output.status,
                String::from_utf8_lossy(&output.stderr)
            )
            .into()),
        }
    }

    /// Writes a page.
    ///
    /// # Errors
    /// Returns an error if the command fails.
    pub(crate) fn write(&self, name: &str, arguments: &[&str]) -> Result<PathBuf> {
        let html = self.matrix(&[arguments, &["--format", "html"]].concat())?;
        let path = self.folder.path().join(name);
        fs::write(&path, html)?;
        Ok(path)
    }

    /// Writes the page of a fleet with this inventory.
    ///
    /// # Errors
    /// Returns an error if the command fails.
    pub(crate) fn write_fleet(&self, inventory: &str, arguments: &[&str]) -> Result<PathBuf> {
        fs::write(self.folder.path().join("fleet.jsonl"), inventory)?;
        let path = self.folder.path().join("fleet.html");
        let name = path.to_str().ok_or("a folder that is not UTF-8")?;
        let command = ["fleet", "page", "fleet.jsonl", "-o", name];
        self.run(&[&command, arguments].concat())?;
        Ok(path)
    }

    /// Returns the same cells as CSV, row by row.
    ///
    /// # Errors
    /// Returns an error if the command fails.
    pub(crate) fn csv(&self, arguments: &[&str]) -> Result<Vec<CsvCell>> {
        let text = self.matrix(&[arguments, &["--format", "csv"]].concat())?;
        let mut reader = csv::Reader::from_reader(&*text);
        let headers = reader.headers()?.clone();
        let column = |name: &str| {
            let position = headers.iter().position(|header| header == name);
            position.ok_or_else(|| format!("no column {name}"))
        };
        let (symbol, without_cpreg) = (column("symbol")?, column("without_cpreg")?);
        let mut cells = Vec::new();
        for record in reader.records() {
            let record = record?;
            cells.push(CsvCell {
                symbol: record[symbol].to_owned(),
                without_cpreg: record[without_cpreg].to_owned(),
            });
        }
        Ok(cells)
    }

    /// Returns the data of a page.
    ///
    /// # Errors
    /// Returns an error if the page has no data, or if they do not match the model.
    pub(crate) fn data(page: &Path) -> Result<PageData> {
        let html = fs::read_to_string(page)?;
        let start = "<script type=\"application/json\" id=\"data\">";
        let (_, rest) = html.split_once(start).ok_or("the page has no data")?;
        let (json, _) = rest.split_once("</script>").ok_or("the data have no end")?;
        Ok(serde_json::from_str(json)?)
    }
}
