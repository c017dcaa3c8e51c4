//! [`forward_files`]: forwards a stream from file to file and buffers its device state.
//!
//! Between two pipes, the kernel moves the bytes: `super::pipe`.

use std::fs::File;

use cpreg_stream::Error;
use cpreg_stream::incremental::{DeviceStateBuffer, Phase, SetupBuffer, resume_forward};

use super::file::BlockingFd;
use super::pipe::TeePipe;

/// Forwards a stream like [`forward`](cpreg_stream::incremental::forward) between files, pipes and
/// sockets. Between two pipes it copies less.
///
/// `beginning` was read from `input` with [`SetupBuffer::read`], and is written first.
///
/// # Errors
/// Those of [`forward`](cpreg_stream::incremental::forward).
pub fn forward_files(
    beginning: SetupBuffer,
    input: &File,
    output: &File,
    on_progress: &mut dyn FnMut(Phase, u64),
) -> Result<DeviceStateBuffer, Error> {
    let (mut parser, mut unparsed) = beginning.write(&mut BlockingFd(output))?;
    on_progress(parser.phase(), parser.offset());
    if let Some(tee_pipe) = TeePipe::for_pipes(input, output) {
        unparsed = tee_pipe.forward(input, output, &mut parser, unparsed, on_progress)?;
    }
    resume_forward(
        parser,
        unparsed,
        &mut BlockingFd(input),
        &mut BlockingFd(output),
        on_progress,
    )
}
