//! [`convert`]: makes the edit that yields a planned state, opens the result and compares it with
//! the plan.

use cpreg::vm::Vm;

use crate::error::{Error, ErrorKind};
use crate::replacement::Edit;
use crate::source::ReadAt;
use crate::stream::{OpenMethod, Stream};

/// Makes the edit after which the stream holds the state `planned`. Writes nothing.
///
/// `source` is the file that `stream` was opened from. The function opens the edited stream and
/// compares it with `planned`.
/// [`DeviceStateBuffer::convert`](crate::incremental::DeviceStateBuffer::convert) does the same for
/// a stream in transit.
///
/// # Errors
/// - [`ErrorKind::BadEdit`] if the stream cannot hold the planned state.
/// - [`ErrorKind::NotAsPlanned`] if the edited stream differs from the plan. If the edited stream
///   cannot be opened, the reading error is the source of this error.
/// - Reading errors of `source`.
pub fn convert(stream: &Stream, source: &dyn ReadAt, planned: &Vm) -> Result<Edit, Error> {
    convert_and_open(stream, source, planned, &|edit| {
        Stream::open(&edit.apply_to(source))
    })
}

/// Converts like [`convert`]; `open` opens the edited stream.
pub(crate) fn convert_and_open(
    stream: &Stream,
    source: &dyn ReadAt,
    planned: &Vm,
    open: &dyn Fn(&Edit) -> Result<Stream, Error>,
) -> Result<Edit, Error> {
    let edits = stream.diff_to(planned)?;
    let edit = stream.edit_unverified(source, &edits)?;
    let unreadable = |error: Error| {
        Error::new(ErrorKind::NotAsPlanned, "the edited stream cannot be read").with_source(error)
    };
    let edited = open(&edit).map_err(unreadable)?;
    let written = edited.vm().map_err(unreadable)?;
    let is_by_description = |stream: &Stream| {
        matches!(
            stream.open_method(),
            OpenMethod::Description | OpenMethod::Verified
        )
    };
    let description_matches = is_by_description(&edited) || !is_by_description(stream);
    if description_matches && written.is_same_state(planned) {
        Ok(edit)
    } else {
        Err(Error::new(
            ErrorKind::NotAsPlanned,
            "the edited stream does not hold the planned state; nothing was written",
        )
        .with_hint("this is a fault of cpreg: please report it"))
    }
}
