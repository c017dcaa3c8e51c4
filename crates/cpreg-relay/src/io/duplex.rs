//! Forwarding of unparsed bytes in both directions of a connection.

use std::thread;

use super::cancel::CancelToken;
use super::connection::{Connection, Reader, ShutdownHandle, Writer};
use super::splice::{ByteCounter, CopyError, splice_all};

/// Forwards unparsed bytes in both directions until both ends have closed.
///
/// `inspect` may wait for the first bytes of the source, and shut both connections down. Bytes of
/// the destination already pass meanwhile.
///
/// # Errors
/// Returns an error if one side fails or the token is cancelled. Both connections are then shut
/// down.
pub(crate) fn forward_both_ways(
    mut source: Connection,
    destination: Connection,
    cancel: &CancelToken,
    counter: &(dyn ByteCounter + Sync),
    inspect: impl FnOnce(&mut Reader, &[ShutdownHandle; 2]),
) -> Result<(), CopyError> {
    let shutdown_handles = [
        source.shutdown_handle.clone(),
        destination.shutdown_handle.clone(),
    ];
    thread::scope(|scope| {
        let to_source = scope.spawn({
            let (reader, writer) = (destination.reader, source.writer);
            let shutdown_handles = &shutdown_handles;
            move || forward_one_way(reader, writer, cancel, counter, shutdown_handles)
        });
        inspect(&mut source.reader, &shutdown_handles);
        let result = forward_one_way(
            source.reader,
            destination.writer,
            cancel,
            counter,
            &shutdown_handles,
        );
        result.and(to_source.join().unwrap_or(Ok(())))
    })
}

/// Forwards unparsed bytes in one direction until the input ends.
///
/// # Errors
/// Returns an error if one side fails or the token is cancelled. Both connections are then shut
/// down, so that the sender notices that its peer no longer reads.
fn forward_one_way(
    mut reader: Reader,
    mut writer: Writer,
    cancel: &CancelToken,
    counter: &(dyn ByteCounter + Sync),
    shutdown_handles: &[ShutdownHandle; 2],
) -> Result<(), CopyError> {
    let result = splice_all(&mut reader, &mut writer, cancel, counter);
    if result.is_ok() {
        let _ = writer.finish();
    } else {
        shutdown_handles.iter().for_each(ShutdownHandle::shutdown);
    }
    result.map(drop)
}
