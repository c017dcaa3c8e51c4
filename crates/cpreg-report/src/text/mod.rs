//! Words, numbers and lines as several reports print them.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | words, numbers, lines about one thing |
//! | [`wrap`] | prose and lists in lines of a given width |

pub(crate) mod wrap;

use cpreg::vm::{Content, Extension};

use crate::printer::Printer;
use wrap::{Item, list};

/// A line about one thing.
pub fn print_line(printer: &mut Printer, what: &str, text: &str) {
    printer.line(format_args!("  {what:<10} {text}"));
}

/// Words with commas between, on as many lines as it takes.
pub fn print_list(printer: &mut Printer, what: &str, words: impl Iterator<Item = String>) {
    const LINE_WIDTH: usize = 86;
    let items = words.map(|text| Item {
        width: text.len(),
        text,
    });
    let mut what = what;
    for text in list(&items.collect::<Vec<_>>(), LINE_WIDTH) {
        print_line(printer, what, &text);
        what = "";
    }
}

/// What an extension holds, for people: the number, or how many bytes; what they say only QEMU knows.
pub fn describe_extension(name: &str, content: &Content) -> String {
    match content {
        Content::Number(u64::MAX) if name == Extension::WFXT_TIMER => "idle".to_owned(),
        Content::Number(number) => format!("{number:#x}"),
        Content::Bytes(bytes) if bytes.len() == 1 => "1 byte".to_owned(),
        Content::Bytes(bytes) => format!("{} bytes", bytes.len()),
    }
}

/// The number as `0x…`, or the bytes as they stand, two digits each.
pub fn hexadecimal(content: &Content) -> String {
    match content {
        Content::Number(number) => format!("{number:#x}"),
        Content::Bytes(bytes) => hex::encode(bytes),
    }
}

/// A UUID as it is written.
pub fn format_uuid(bytes: [u8; 16]) -> String {
    let parts = [0..4, 4..6, 6..8, 8..10, 10..16];
    parts.map(|range| hex::encode(&bytes[range])).join("-")
}

/// `1 vCPU`, `4 vCPUs`.
pub fn pluralize(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A length in the largest unit that gives a whole number.
pub fn format_length(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units
        .into_iter()
        .find(|(shift, _)| bytes != 0 && bytes.is_multiple_of(1 << shift))
    {
        Some((shift, unit)) => format!("{} {unit}", bytes >> shift),
        None => format!("{bytes} bytes"),
    }
}
