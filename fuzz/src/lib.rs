//! Checks shared by several fuzz targets.
#![forbid(unsafe_code)]

use cpreg::vm::Vm;
use cpreg_stream::{CountingSource, Edit, Error, ReadAt, Stream};

/// Returns all bytes of a source.
pub fn bytes(source: &dyn ReadAt) -> Vec<u8> {
    let length = source.length().expect("a length");
    let mut bytes = vec![0; usize::try_from(length).expect("a length that fits in memory")];
    source.read_exact_at(&mut bytes, 0).expect("all bytes");
    bytes
}

/// Opens a stream; checks that the result can be translated, and edited without a change.
///
/// # Panics
/// If opening reads too much, or the stream and its state do not match.
pub fn open(
    stream: &[u8],
    open: fn(&dyn ReadAt) -> Result<Stream, Error>,
) -> Result<(Stream, Vm), Error> {
    let source = CountingSource::new(stream);
    let opened = open(&source);
    let limit = 64 * stream.len() as u64 + (1 << 20);
    assert!(source.bytes() < limit, "{} bytes read", source.bytes());
    let opened = opened?;
    let vm = opened.vm()?;
    assert_eq!(opened.shape().vcpu_count, vm.vcpus.len());
    let unchanged = opened.diff_to(&vm).expect("the same state");
    let edit = opened.edit(&stream, &unchanged).expect("no change");
    assert!(edit.is_identity());
    Ok((opened, vm))
}

/// Returns the edited stream.
pub fn apply_edit(edit: &Edit, stream: &[u8]) -> Vec<u8> {
    let edited = bytes(&edit.apply_to(&stream));
    assert_eq!(edited.len() as u64, edit.new_length());
    edited
}
