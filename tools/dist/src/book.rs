//! The documents as a book: HTML pages with a search, to read in a browser without a network.
//!
//! mdBook renders all documents that links connect with README.md. Each file keeps its path, and
//! other files that a document links are copied, so all links stay valid.

mod documents;
mod links;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::archive;
use crate::project::{Project, Result, run};
use documents::Documents;

/// Version of mdBook. Another one could write other bytes.
const VERSION: &str = "0.5.4";

/// Writes `cpreg-VERSION-book.tar.gz`. Returns the file's name.
///
/// # Errors
/// Returns an error if mdBook does not build or fails, or a link has no target.
pub(crate) fn make(project: &Project, output: &Path) -> Result<String> {
    let mdbook = ensure_mdbook(project)?;
    let documents = Documents::collect(&project.root)?;
    let folder = tempfile::tempdir()?;
    documents.copy(&project.root, &folder.path().join("src"))?;
    fs::write(folder.path().join("book.toml"), settings(&project.version))?;
    let name = format!("cpreg-{}-book", project.version);
    let mut command = Command::new(mdbook);
    command.arg("build").arg(folder.path());
    command.arg("--dest-dir").arg(folder.path().join(&name));
    run(command.env("MDBOOK_LOG", "error"))?;
    let pages = links::check(&folder.path().join(&name))?;
    eprintln!("the book has {pages} pages, and each link has a target");
    let file_name = format!("{name}.tar.gz");
    let path = output.join(&file_name);
    archive::write(&path, folder.path(), &PathBuf::from(&name), project.time)?;
    Ok(file_name)
}

/// Returns the program `mdbook`, which is built if it is missing.
fn ensure_mdbook(project: &Project) -> Result<PathBuf> {
    let options = ["--no-default-features", "--features", "search"];
    let bin = project.ensure_tool("mdbook", VERSION, &options)?;
    Ok(bin.join("mdbook"))
}

/// Returns the settings of the book. Pages to print have other links, so the book has none. The
/// default preprocessors would rename the pages of README.md, but not the links to them.
fn settings(version: &str) -> String {
    format!(
        "[book]\n\
         title = \"cpreg {version}\"\n\
         language = \"en\"\n\
         [build]\n\
         create-missing = false\n\
         use-default-preprocessors = false\n\
         [output.html]\n\
         no-section-label = true\n\
         [output.html.print]\n\
         enable = false\n"
    )
}
