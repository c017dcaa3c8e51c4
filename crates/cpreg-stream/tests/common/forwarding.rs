//! Streams that went through a filter: what came out, and what is to be said of it.

use cpreg_stream::incremental::DeviceStateBuffer;
use cpreg_stream::{Edit, Stream};

use super::{bytes, shortening_edits};

/// The whole stream that comes out.
pub fn join_output(passed: &[u8], held: &DeviceStateBuffer, edit: &Edit) -> Vec<u8> {
    let mut whole = passed.to_vec();
    held.write(edit, &mut whole).unwrap();
    whole
}

/// Without a change it is the same stream, and with one it is what `convert` would write of the file.
pub fn assert_forwarded(name: &str, whole: &[u8], passed: &[u8], held: &DeviceStateBuffer) {
    let file = Stream::open(&whole).unwrap();
    let stream = held
        .open_stream()
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(stream.vm().unwrap(), file.vm().unwrap(), "{name}");
    assert_eq!(stream.sections(), file.sections(), "{name}");
    assert_eq!(stream.ram_blocks(), file.ram_blocks(), "{name}");
    assert_eq!(stream.configuration(), file.configuration(), "{name}");
    assert_eq!(stream.length(), file.length(), "{name}");
    assert_eq!(stream.description(), file.description(), "{name}");
    assert!(held.start() + held.length() == whole.len() as u64);

    let unchanged = Edit::identity(whole.len() as u64);
    assert!(join_output(passed, held, &unchanged) == whole, "{name}");
    let edit = stream.edit(held, &shortening_edits(&stream)).unwrap();
    assert!(!edit.is_identity(), "{name}");
    let expected = file.edit(&whole, &shortening_edits(&file)).unwrap();
    let changed = join_output(passed, held, &edit);
    assert!(changed == bytes(&expected.apply_to(&whole)), "{name}");
    let edited = held.open_edited(&edit).unwrap();
    let expected = Stream::open(&changed).unwrap();
    assert_eq!(edited.vm().unwrap(), expected.vm().unwrap(), "{name}");
}

/// Opens what came out although something was wrong: it must not be a stream.
pub fn assert_no_stream(passed: &[u8], why: &str) {
    if let Ok(stream) = Stream::open_by_full_scan(&passed) {
        panic!("{} bytes passed and open: {why}", stream.length());
    }
}
