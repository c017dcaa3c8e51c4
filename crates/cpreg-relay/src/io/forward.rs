//! [`pump_files`]: a stream from file to file; what may pass passes, the rest is held back.
//!
//! Between two pipes the kernel moves the bytes: `super::pipe`.

use std::fs::File;

use cpreg_stream::Error;
use cpreg_stream::incremental::{Flow, Held, Phase, pump_on};

use super::file::Patient;
use super::pipe::Copy;

/// Like [`pump`](cpreg_stream::incremental::pump) between files, pipes and sockets; between two
/// pipes at less cost.
///
/// # Errors
/// Those of [`pump`](cpreg_stream::incremental::pump).
pub fn pump_files(
    input: &File,
    output: &File,
    tell: &mut dyn FnMut(Phase, u64),
) -> Result<Held, Error> {
    let mut flow = Flow::new();
    let mut begun = Vec::new();
    if let Some(copy) = Copy::between(input, output) {
        begun = copy.pump(input, output, &mut flow, tell)?;
    }
    pump_on(flow, begun, &mut Patient(input), &mut Patient(output), tell)
}
