//! [`Documents`]: the documents of the repository, and the files that they link.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::fs;
use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::project::Result;

/// Document at which the search for links begins.
const FIRST: &str = "README.md";

/// Parts of the book: folder of their documents, and title. A document belongs to the first part
/// whose folder has it.
const PARTS: [(&str, &str); 4] = [
    ("docs/commands", "Commands"),
    ("docs/platforms", "Platforms"),
    ("docs", "Documents"),
    ("", "Project"),
];

/// Titles of the parts in the order of the book.
const PART_ORDER: [&str; 4] = ["Documents", "Platforms", "Commands", "Project"];

/// Documents of the repository, and the files that they link.
#[derive(Debug, Default)]
pub(super) struct Documents {
    /// Paths and titles of the documents, in the order of the first links to them.
    chapters: Vec<(PathBuf, String)>,
    /// Other linked files.
    files: BTreeSet<PathBuf>,
}

impl Documents {
    /// Finds all documents that links connect with README.md. All paths are relative to `root`.
    ///
    /// # Errors
    /// Returns an error that names the document if one has no title, or a link has no target.
    pub(super) fn collect(root: &Path) -> Result<Self> {
        let mut documents = Self::default();
        let mut found = BTreeSet::from([PathBuf::from(FIRST)]);
        let mut next = VecDeque::from([PathBuf::from(FIRST)]);
        while let Some(path) = next.pop_front() {
            let context = |problem: &str| format!("{}: {problem}", path.display());
            let text = fs::read_to_string(root.join(&path))
                .map_err(|error| context(&error.to_string()))?;
            let title = title(&text).ok_or_else(|| context("no title"))?;
            documents.chapters.push((path.clone(), title));
            for link in links(&text) {
                let Some(target) = target(&path, &link) else {
                    continue;
                };
                let target =
                    target.ok_or_else(|| context(&format!("{link} leaves the project")))?;
                let full = root.join(&target);
                if full.is_dir() {
                    documents.add_folder(root, &target)?;
                } else if !full.is_file() {
                    return Err(context(&format!("{link} does not exist")).into());
                } else if target
                    .extension()
                    .is_some_and(|extension| extension == "md")
                {
                    if found.insert(target.clone()) {
                        next.push_back(target);
                    }
                } else {
                    documents.files.insert(target);
                }
            }
        }
        Ok(documents)
    }

    /// Adds all files of a linked folder.
    fn add_folder(&mut self, root: &Path, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(root.join(folder))? {
            let path = folder.join(entry?.file_name());
            if root.join(&path).is_dir() {
                self.add_folder(root, &path)?;
            } else {
                self.files.insert(path);
            }
        }
        Ok(())
    }

    /// Copies the documents and files, and writes the table of contents that mdBook reads.
    ///
    /// # Errors
    /// Returns an error if a file cannot be copied.
    pub(super) fn copy(&self, root: &Path, folder: &Path) -> Result<()> {
        let chapters = self.chapters.iter().map(|(path, _)| path);
        for path in chapters.chain(&self.files) {
            let copy = folder.join(path);
            if let Some(parent) = copy.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::copy(root.join(path), copy)?;
        }
        fs::write(folder.join("SUMMARY.md"), self.summary()?)?;
        Ok(())
    }

    /// Returns the table of contents.
    fn summary(&self) -> Result<String> {
        let mut text = "# Contents\n\n".to_owned();
        let entry = |text: &mut String, bullet: &str, (path, title): &(PathBuf, String)| {
            let title = title.replace('[', "\\[").replace(']', "\\]");
            writeln!(text, "{bullet}[{title}]({})", path.display())
        };
        if let Some(first) = self.chapters.first() {
            entry(&mut text, "", first)?;
        }
        for part in PART_ORDER {
            write!(text, "\n# {part}\n\n")?;
            let chapters = self.chapters.iter().skip(1);
            for chapter in chapters.filter(|(path, _)| part_of(path) == part) {
                entry(&mut text, "- ", chapter)?;
            }
        }
        Ok(text)
    }
}

/// Returns the title of the part that has this document.
fn part_of(path: &Path) -> &'static str {
    let mut parts = PARTS.iter();
    let part = parts.find(|(folder, _)| path.starts_with(folder));
    part.map_or("", |(_, title)| title)
}

/// Returns the destinations of all links and images.
fn links(text: &str) -> Vec<String> {
    let events = Parser::new_ext(text, Options::ENABLE_TABLES);
    let links = events.filter_map(|event| match event {
        Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => Some(dest_url),
        _ => None,
    });
    links.map(String::from).collect()
}

/// Returns the text of the first heading.
fn title(text: &str) -> Option<String> {
    let mut events = Parser::new(text);
    events.find(|event| matches!(event, Event::Start(Tag::Heading { .. })))?;
    let heading = events.take_while(|event| !matches!(event, Event::End(TagEnd::Heading(_))));
    let words = heading.filter_map(|event| match event {
        Event::Text(text) | Event::Code(text) => Some(text.to_string()),
        _ => None,
    });
    Some(words.collect())
}

/// Returns the path of a link's target in the project, `None` for the address of a web page or a
/// place in the same document, and `Some(None)` if the target is outside the project.
#[expect(
    clippy::option_option,
    reason = "no target differs from a target outside"
)]
fn target(document: &Path, link: &str) -> Option<Option<PathBuf>> {
    let path = link.split('#').next().unwrap_or(link);
    if path.is_empty() || link.contains(':') {
        return None;
    }
    let mut target = document.parent().unwrap_or(Path::new("")).to_owned();
    for component in Path::new(path).components() {
        match component {
            Component::ParentDir if !target.pop() => return Some(None),
            Component::Normal(name) => target.push(name),
            _ => {}
        }
    }
    Some(Some(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_the_documents_have_targets() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let documents = Documents::collect(&root).unwrap();
        let has = |path: &str| {
            documents
                .chapters
                .iter()
                .any(|(it, _)| it == Path::new(path))
        };
        assert!(has("docs/commands/check.md") && has("e2e/lab/README.md"));
        let summary = documents.summary().unwrap();
        for (path, title) in &documents.chapters {
            assert!(!title.is_empty(), "{}", path.display());
            let link = format!("]({})", path.display());
            assert_eq!(summary.matches(&link).count(), 1, "{link}");
        }
    }

    #[test]
    fn links_are_relative_to_their_document() {
        let target = |link| target(Path::new("docs/commands/check.md"), link);
        let path = |path: &str| Some(Some(PathBuf::from(path)));
        assert_eq!(target("run.md"), path("docs/commands/run.md"));
        assert_eq!(target("../facts.md#a"), path("docs/facts.md"));
        assert_eq!(target("../../SECURITY.md"), path("SECURITY.md"));
        assert_eq!(target("../../../other"), Some(None));
        assert_eq!(target("#here"), None);
        assert_eq!(target("https://example.org/a.md"), None);
    }

    #[test]
    fn a_missing_target_is_an_error_with_both_names() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(FIRST), "# One\n\n[two](two.md)\n").unwrap();
        let error = Documents::collect(root.path()).unwrap_err().to_string();
        assert_eq!(error, "README.md: two.md does not exist");
        fs::write(root.path().join("two.md"), "no heading").unwrap();
        let error = Documents::collect(root.path()).unwrap_err().to_string();
        assert_eq!(error, "two.md: no title");
    }

    #[test]
    fn titles_and_links_are_read_as_markdown() {
        let text = "# The `check` command\n\n`[no](link.md)` ![a](a.svg)\n\n| [b](b.md) |\n|---|\n";
        assert_eq!(title(text).as_deref(), Some("The check command"));
        assert_eq!(links(text), ["a.svg", "b.md"]);
    }
}
