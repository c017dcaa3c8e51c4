//! From one file or pipe to another: what may pass passes, the rest is held back.
//!
//! One buffer is read into and written from; nothing is moved in it but the begin of a record whose end has not come.
//! What may pass is decided in [`super::engine`].

use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use super::engine::{Flow, cannot_write};
use super::{Held, Phase};
use crate::error::Error;

/// What is read at once: it stays in the processor's cache until it has been written.
const BUFFER: usize = 256 << 10;
/// What a pipe is asked to hold, in bytes: the most that Linux gives to everybody.
const PIPE: usize = 1 << 20;

/// Carries a stream from `input` to `output` up to its device state, which is held back until all of it has come.
///
/// `tell` hears the phase and the number of bytes that have passed, after each piece.
///
/// # Errors
/// Those of [`Flow::go_over`] and [`Flow::finish`], and if something cannot be read or written. What has been written
/// then is no complete stream.
pub fn pump(
    input: &mut dyn Read,
    output: &mut dyn Write,
    tell: &mut dyn FnMut(Phase, u64),
) -> Result<Held, Error> {
    let mut flow = Flow::new();
    let mut buffer = vec![0; BUFFER];
    let mut filled = 0;
    loop {
        if filled == buffer.len() {
            // Something long before the pages; how long it may be is the engine's to say.
            buffer.resize(2 * filled, 0);
        }
        let count = match input.read(&mut buffer[filled..]) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let at = flow.offset() + filled as u64;
                return Err(Error::io("cannot read the stream", error).at(at));
            }
        };
        filled += count;
        let taken = flow.go_over(&buffer[..filled], count == 0)?;
        output
            .write_all(&buffer[..taken.pass])
            .map_err(cannot_write)?;
        let gone = taken.pass + taken.held;
        buffer.copy_within(gone..filled, 0);
        filled -= gone;
        tell(flow.phase(), flow.offset());
        if count == 0 {
            output.flush().map_err(cannot_write)?;
            return flow.finish();
        }
    }
}

/// Lets a pipe hold more, so that reader and writer wait for each other less often. What is no pipe stays as it is, and a
/// pipe that the system does not let grow too.
pub fn widen(pipe: impl AsFd) {
    #[cfg(target_os = "linux")]
    if rustix::pipe::fcntl_getpipe_size(&pipe).is_ok_and(|size| size < PIPE) {
        let _ = rustix::pipe::fcntl_setpipe_size(&pipe, PIPE);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (pipe, PIPE);
}
