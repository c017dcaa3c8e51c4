//! [`forward_files`]: a stream from file to file; what may pass passes, the rest is held back.
//!
//! Between two pipes the kernel moves the bytes: `super::pipe`.

use std::fs::File;

use cpreg_stream::Error;
use cpreg_stream::incremental::{DeviceStateBuffer, IncrementalParser, Phase, resume_forward};

use super::file::BlockingFd;
use super::pipe::TeePipe;

/// Like [`forward`](cpreg_stream::incremental::pump) between files, pipes and sockets; between two
/// pipes at less cost.
///
/// # Errors
/// Those of [`forward`](cpreg_stream::incremental::pump).
pub fn forward_files(
    input: &File,
    output: &File,
    tell: &mut dyn FnMut(Phase, u64),
) -> Result<DeviceStateBuffer, Error> {
    let mut flow = IncrementalParser::new();
    let mut begun = Vec::new();
    if let Some(copy) = TeePipe::for_pipes(input, output) {
        begun = copy.forward(input, output, &mut flow, tell)?;
    }
    resume_forward(
        flow,
        begun,
        &mut BlockingFd(input),
        &mut BlockingFd(output),
        tell,
    )
}
