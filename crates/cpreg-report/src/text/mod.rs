//! Words, numbers and lines that several reports share.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | words, numbers, labelled lines |
//! | `wrap` | prose and lists in lines of a given width |

pub(crate) mod wrap;

use cpreg::vm::{Content, Extension};

use crate::printer::Printer;
use wrap::{Item, list};

/// Prints a line with a label in its first column.
pub fn print_line(printer: &mut Printer, label: &str, text: &str) {
    printer.line(format_args!("  {label:<10} {text}"));
}

/// Prints words with commas between them, wrapped. The label is on the first line.
pub fn print_list(printer: &mut Printer, label: &str, words: impl Iterator<Item = String>) {
    const LINE_WIDTH: usize = 86;
    let items = words.map(|text| Item {
        width: text.len(),
        text,
    });
    let mut label = label;
    for text in list(&items.collect::<Vec<_>>(), LINE_WIDTH) {
        print_line(printer, label, &text);
        label = "";
    }
}

/// Returns the content of an extension for people: a number, or the number of bytes.
///
/// Only QEMU knows the meaning of the bytes.
pub fn describe_extension(name: &str, content: &Content) -> String {
    match content {
        Content::Number(u64::MAX) if name == Extension::WFXT_TIMER => "idle".to_owned(),
        Content::Number(number) => format!("{number:#x}"),
        Content::Bytes(bytes) if bytes.len() == 1 => "1 byte".to_owned(),
        Content::Bytes(bytes) => format!("{} bytes", bytes.len()),
    }
}

/// Returns the number as `0x…`, or the bytes in their order with two digits each.
pub fn hexadecimal(content: &Content) -> String {
    match content {
        Content::Number(number) => format!("{number:#x}"),
        Content::Bytes(bytes) => hex::encode(bytes),
    }
}

/// Returns a UUID in its usual form.
pub fn format_uuid(bytes: [u8; 16]) -> String {
    let parts = [0..4, 4..6, 6..8, 8..10, 10..16];
    parts.map(|range| hex::encode(&bytes[range])).join("-")
}

/// Returns a count with its noun: `1 vCPU`, `4 vCPUs`.
pub fn pluralize(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Returns the first `max` names with commas between them, and the number of the others.
pub fn list_first<S: AsRef<str>>(names: &[S], max: usize) -> String {
    let shown: Vec<_> = names.iter().take(max).map(AsRef::as_ref).collect();
    let shown = shown.join(", ");
    match names.len().saturating_sub(max) {
        0 => shown,
        rest => format!("{shown} and {rest} more"),
    }
}

/// Returns a length in the largest unit that gives a whole number.
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
