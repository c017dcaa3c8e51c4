//! Compression of the stream, by the programs that libvirt itself runs.
//!
//! Another implementation could accept or write something that libvirt's program does not.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::process::{Child, Command, Stdio};

use super::header::SaveFormat;
use crate::error::{Error, ErrorKind};

/// Length of the buffer for decompressed bytes.
const BLOCK_LEN: usize = 1 << 16;
/// Maximum number of bytes of a program's message.
const MAX_MESSAGE_LEN: u64 = 4096;

/// Running program, whose standard error goes to a file without a name.
struct Program {
    format: SaveFormat,
    child: Child,
    messages: File,
}

impl Program {
    /// Starts the format's program.
    fn start(
        format: SaveFormat,
        arguments: &[&str],
        input: Stdio,
        output: Stdio,
    ) -> Result<Self, Error> {
        let messages = tempfile::tempfile().map_err(temporary_failure)?;
        let stderr = messages.try_clone().map_err(temporary_failure)?;
        let name = format.name();
        let child = Command::new(name)
            .args(arguments)
            .stdin(input)
            .stdout(output)
            .stderr(stderr)
            .spawn()
            .map_err(|error| {
                let is_missing = error.kind() == io::ErrorKind::NotFound;
                let failure = Error::io(format!("cannot run {name}"), error);
                if is_missing {
                    return failure.with_hint(format!(
                        "the save image is compressed with {name}: install the program {name}, \
                         which libvirt needs for this image too"
                    ));
                }
                failure
            })?;
        Ok(Self {
            format,
            child,
            messages,
        })
    }

    /// Waits for the program, and returns an error with its message if the program failed.
    fn finish(mut self) -> Result<(), Error> {
        let name = self.format.name();
        let failed = |error| Error::io(format!("cannot wait for {name}"), error);
        let status = self.child.wait().map_err(failed)?;
        if status.success() {
            return Ok(());
        }
        let mut message = Vec::new();
        let read = self.messages.seek(SeekFrom::Start(0));
        let read = read.and_then(|_| {
            (&self.messages)
                .take(MAX_MESSAGE_LEN)
                .read_to_end(&mut message)
        });
        read.map_err(temporary_failure)?;
        let message = String::from_utf8_lossy(&message);
        let message = message.trim();
        Err(Error::new(
            ErrorKind::Io,
            format!("{name} failed ({status}): {}", message.escape_debug()),
        ))
    }
}

/// Ends a program that is no longer of use.
impl Drop for Program {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn temporary_failure(error: io::Error) -> Error {
    Error::io("cannot write a temporary copy of the stream", error)
        .with_hint("TMPDIR names the directory for temporary files")
}

/// Decompresses the bytes of `file` from `start` on into an unnamed temporary file, with holes for
/// blocks of zeros.
pub(super) fn decompress(format: SaveFormat, file: &File, start: u64) -> Result<File, Error> {
    let unreadable = |error| Error::io("cannot read the file", error);
    let mut input = file.try_clone().map_err(unreadable)?;
    input.seek(SeekFrom::Start(start)).map_err(unreadable)?;
    let arguments: &[&str] = match format {
        SaveFormat::Lzop => &["-dc", "--ignore-warn"],
        _ => &["-dc"],
    };
    let mut program = Program::start(format, arguments, input.into(), Stdio::piped())?;
    let Some(mut output) = program.child.stdout.take() else {
        return Err(Error::new(ErrorKind::Io, "no output of the program"));
    };
    let mut unpacked = tempfile::tempfile().map_err(temporary_failure)?;
    let mut block = vec![0; BLOCK_LEN];
    let mut length = 0;
    loop {
        let count = output.read(&mut block).map_err(unreadable)?;
        if count == 0 {
            break;
        }
        length += count as u64;
        let data = &block[..count];
        if data.iter().all(|byte| *byte == 0) {
            unpacked
                .seek(SeekFrom::Start(length))
                .map_err(temporary_failure)?;
        } else {
            unpacked.write_all(data).map_err(temporary_failure)?;
        }
    }
    unpacked.set_len(length).map_err(temporary_failure)?;
    drop(output);
    program.finish().map_err(|error| {
        error.with_hint("the save image is damaged or cut: get a complete copy")
    })?;
    Ok(unpacked)
}

/// Compresses the bytes that `write` writes, and puts the result into `file` from `start` on.
pub(super) fn compress(
    format: SaveFormat,
    file: &File,
    start: u64,
    write: impl FnOnce(&mut dyn Write) -> Result<(), Error>,
) -> Result<(), Error> {
    let unwritable = |error| Error::io("cannot write the new save image", error);
    let mut output = file.try_clone().map_err(unwritable)?;
    output.seek(SeekFrom::Start(start)).map_err(unwritable)?;
    let arguments: &[&str] = match format {
        SaveFormat::Xz => &["-c", "-3"],
        _ => &["-c"],
    };
    let mut program = Program::start(format, arguments, Stdio::piped(), output.into())?;
    let Some(mut input) = program.child.stdin.take() else {
        return Err(Error::new(ErrorKind::Io, "no input of the program"));
    };
    let written = write(&mut input);
    drop(input);
    // The program's own message tells more than a closed pipe.
    program.finish()?;
    written
}
