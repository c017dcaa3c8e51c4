//! Checks of streams that went through a filter.

use cpreg_stream::incremental::DeviceStateBuffer;
use cpreg_stream::{Edit, Stream};

use super::{bytes, shortening_edits};

/// Returns the whole output stream.
pub fn join_output(forwarded: &[u8], buffer: &DeviceStateBuffer, edit: &Edit) -> Vec<u8> {
    let mut whole = forwarded.to_vec();
    buffer.write(edit, &mut whole).unwrap();
    whole
}

/// Checks that the output is the same stream, and after an edit the one that `convert` writes.
pub fn assert_forwarded(name: &str, whole: &[u8], forwarded: &[u8], buffer: &DeviceStateBuffer) {
    let file = Stream::open(&whole).unwrap();
    let stream = buffer
        .open_stream()
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(stream.vm().unwrap(), file.vm().unwrap(), "{name}");
    assert_eq!(stream.sections(), file.sections(), "{name}");
    assert_eq!(stream.ram_blocks(), file.ram_blocks(), "{name}");
    assert_eq!(stream.configuration(), file.configuration(), "{name}");
    assert_eq!(stream.length(), file.length(), "{name}");
    assert_eq!(stream.description(), file.description(), "{name}");
    assert!(buffer.start() + buffer.length() == whole.len() as u64);

    let unchanged = Edit::identity(whole.len() as u64);
    assert!(
        join_output(forwarded, buffer, &unchanged) == whole,
        "{name}"
    );
    let edit = stream.edit(buffer, &shortening_edits(&stream)).unwrap();
    assert!(!edit.is_identity(), "{name}");
    let expected = file.edit(&whole, &shortening_edits(&file)).unwrap();
    let changed = join_output(forwarded, buffer, &edit);
    assert!(changed == bytes(&expected.apply_to(&whole)), "{name}");
    let edited = buffer.open_edited(&edit).unwrap();
    let expected = Stream::open(&changed).unwrap();
    assert_eq!(edited.vm().unwrap(), expected.vm().unwrap(), "{name}");
}

/// Checks that the bytes forwarded before an error are not a complete stream.
pub fn assert_no_stream(forwarded: &[u8], reason: &str) {
    if let Ok(stream) = Stream::open_by_full_scan(&forwarded) {
        panic!(
            "{} bytes were forwarded and open: {reason}",
            stream.length()
        );
    }
}
