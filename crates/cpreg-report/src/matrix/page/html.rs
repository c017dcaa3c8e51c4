//! A page as an HTML document.
//!
//! The document has no links to other files. Its content security policy forbids every request, and
//! every script except its own, so that no name in the data can act as a script.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};

use super::model::PageData;

const STYLE: &str = include_str!("assets/page.css");
const BODY: &str = include_str!("assets/body.html");
/// Parts of the script, in the order in which they run.
const SCRIPTS: [&str; 6] = [
    include_str!("assets/data.js"),
    include_str!("assets/timeline.js"),
    include_str!("assets/details.js"),
    include_str!("assets/fleet.js"),
    include_str!("assets/grid.js"),
    include_str!("assets/main.js"),
];

/// Returns the document.
///
/// # Errors
/// Returns an error if the data cannot be serialised, which does not happen.
pub fn document(data: &PageData) -> serde_json::Result<String> {
    let script = format!("\"use strict\";\n{}", SCRIPTS.concat());
    let hash = BASE64_STANDARD.encode(Sha256::digest(&script));
    let json = escape_markup(&serde_json::to_string(data)?);
    Ok(format!(
        "<!DOCTYPE html>\n\
         <html lang=\"en\">\n\
         <head>\n\
         <meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'; script-src 'sha256-{hash}'; base-uri 'none'; \
         form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>cpreg matrix</title>\n\
         <style>\n{STYLE}</style>\n\
         </head>\n\
         <body>\n\
         {BODY}\
         <script type=\"application/json\" id=\"data\">{json}</script>\n\
         <script>{script}</script>\n\
         </body>\n\
         </html>\n"
    ))
}

/// Escapes the characters of JSON that could begin or end markup. They occur only inside strings.
fn escape_markup(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::model::MatrixHeader;
    use crate::matrix::page::details::CellDetails;
    use crate::matrix::page::model::PageLoader;
    use crate::matrix::page::{PageBuilder, RowDetails};
    use crate::names::UnchangedLoad;

    fn page(name: &str) -> PageData {
        let header = MatrixHeader {
            cpreg_version: "0.1.0".to_owned(),
            loader: None,
            destinations: vec!["one".to_owned(), "two".to_owned()],
            left_out: Vec::new(),
        };
        let loader = PageLoader {
            label: "qemu-10.0".to_owned(),
            option: String::new(),
        };
        let mut page = PageBuilder::new(&header, vec![loader], &["a b".to_owned()]);
        let cell = CellDetails {
            symbol: '?',
            without_cpreg: UnchangedLoad::UNKNOWN,
            severity: None,
            reason: Some("no evidence".to_owned()),
            consents: None,
            parts: Vec::new(),
            messages: Vec::new(),
        };
        for _ in 0..2 {
            page.add_row(RowDetails {
                name: name.to_owned(),
                vcpus: 1,
                is_new: false,
                planes: vec![vec![cell.clone(); 2]],
            });
        }
        page.finish(&cpreg_hosts::HostIndex::default())
    }

    #[test]
    fn equal_cells_and_texts_occur_once() {
        let data = page("vm");
        assert_eq!(data.rows, [[[0, 0]]]);
        assert_eq!(data.sources.len(), 2);
        assert_eq!(data.cells.len(), 1);
        assert_eq!(data.texts, ["no evidence"]);
        assert_eq!(data.options, " 'a b'");
    }

    #[test]
    fn names_end_no_element_and_the_data_are_complete() {
        let name = "</script><script>alert(1)</script>&amp;<!--\u{2028}\u{202e}\n";
        let data = page(name);
        let html = document(&data).expect("a document");
        assert_eq!(html.matches("</script>").count(), 2);
        assert_eq!(html.matches("<script").count(), 2);
        assert!(!html.contains("<!--"), "only the doctype begins with <!");
        let (_, rest) = html.split_once("id=\"data\">").expect("data");
        let (json, _) = rest.split_once("</script>").expect("an end");
        let read: PageData = serde_json::from_str(json).expect("the model");
        assert_eq!(read, data);
        // A mark that reverses the direction of text is shown as an escape.
        let shown = "</script><script>alert(1)</script>&amp;<!--\\u{2028}\\u{202e}\\n";
        assert_eq!(read.sources[0].name, shown);
    }

    #[test]
    fn the_page_refers_to_no_other_file_and_allows_only_its_script() {
        let html = document(&page("vm")).expect("a document");
        for reference in [
            "src=", "href=", "url(", "@import", "http:", "https:", "fetch(",
        ] {
            assert!(!html.contains(reference), "{reference}");
        }
        let (_, rest) = html.rsplit_once("<script>").expect("the script");
        let (script, _) = rest.split_once("</script>").expect("an end");
        let hash = BASE64_STANDARD.encode(Sha256::digest(script));
        assert!(html.contains(&format!("script-src 'sha256-{hash}'")));
        assert!(html.contains("default-src 'none'"));
    }
}
