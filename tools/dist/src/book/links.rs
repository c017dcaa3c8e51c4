//! The links of rendered pages.

use std::fs;
use std::path::{Path, PathBuf};

use crate::project::Result;

/// Checks that each link of each page below `folder` has a file as its target, with the named
/// place. Returns the number of pages.
///
/// # Errors
/// Returns an error that lists all links without a target.
pub(super) fn check(folder: &Path) -> Result<usize> {
    let mut pages = Vec::new();
    find_pages(folder, &mut pages)?;
    let mut missing = Vec::new();
    for page in &pages {
        let html = fs::read_to_string(page)?;
        for link in links(&html) {
            if !has_target(page, &html, link)? {
                let page = page.strip_prefix(folder).unwrap_or(page);
                missing.push(format!("{}: {link}", page.display()));
            }
        }
    }
    if missing.is_empty() {
        Ok(pages.len())
    } else {
        Err(format!(
            "links of the book without a target:\n{}",
            missing.join("\n")
        )
        .into())
    }
}

/// Adds all pages below a folder.
fn find_pages(folder: &Path, pages: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find_pages(&path, pages)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "html")
        {
            pages.push(path);
        }
    }
    Ok(())
}

/// Returns the links to places in the book.
fn links(html: &str) -> impl Iterator<Item = &str> {
    let values = [" href=\"", " src=\""].map(|attribute| html.split(attribute).skip(1));
    let links = values.into_iter().flatten();
    let links = links.filter_map(|rest| rest.split('"').next());
    links.filter(|link| !link.is_empty() && !link.contains(':'))
}

/// Returns `true` if the file exists and has the place.
fn has_target(page: &Path, html: &str, link: &str) -> Result<bool> {
    let (path, place) = link.split_once('#').unwrap_or((link, ""));
    let has_place = |html: &str| place.is_empty() || html.contains(&format!("id=\"{place}\""));
    if path.is_empty() {
        return Ok(has_place(html));
    }
    let target = page.parent().unwrap_or(Path::new("")).join(path);
    if place.is_empty() {
        return Ok(target.exists());
    }
    Ok(target.is_file() && has_place(&fs::read_to_string(target)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_need_a_file_and_a_place() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write(
            "a.html",
            "<h1 id=\"top\"></h1> <a href=\"#top\"> <a href=\"https://b#c\">",
        );
        write("b.html", "<a href=\"a.html#top\"> <img src=\"a.html\">");
        assert_eq!(check(folder.path()).unwrap(), 2);
        write(
            "c.html",
            "<a href=\"a.html#end\"> <a href=\"d.html\"> <a href=\"#x\">",
        );
        let error = check(folder.path()).unwrap_err().to_string();
        assert_eq!(
            error,
            "links of the book without a target:\nc.html: a.html#end\nc.html: d.html\nc.html: #x"
        );
    }
}
