//! [`PrefixCopy`]: a new file that receives the unchanged beginning of a stream before the edit is
//! known.
//!
//! The edit of a stream lies after its RAM. A thread copies RAM into an unnamed file, while the
//! caller decides about the edit. The caller then stops the thread and writes the rest itself. So
//! errors and progress are those of [`crate::write`].
//!
//! ```text
//! start ──▶ thread copies ──finish──▶ thread stops ──▶ caller writes the rest ──▶ named file
//!   │             └───────drop──────▶ thread stops ──▶ the file vanishes
//!   ├─────▶ all blocks are shared ──finish──▶ caller writes the changes ──▶ named file
//!   └─────▶ no file yet (short prefix, no unnamed files, …) ──finish──▶ as `write_new`
//! ```
//!
//! The file has no name before it is complete, not even a hidden one, so a process that dies leaves
//! no file. An existing file stays until the new one replaces it.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use crate::copy::{self, PIECE_LEN};
use crate::error::Error;
use crate::new_file::NewFile;
use crate::replacement::Edit;
use crate::source::ReadAt;
use crate::write::{ExistingFile, OutputTarget, PartialFile, check_length, write_rest};

/// Length in bytes of the shortest prefix that pays for a thread.
const MIN_PREFIX_LEN: u64 = 8 << 20;
/// Maximum number of bytes that the thread copies.
///
/// A caller that discards the copy has wasted at most this much work and disk space.
const MAX_COPY_LEN: u64 = 256 << 20;
/// Size in bytes of the thread's stack; the copy buffer is not on the stack.
const STACK_SIZE: usize = 128 << 10;

/// New file into which a thread copies the beginning of a source before the edit is known.
///
/// [`Self::finish`] writes the edited file as [`write_new`](crate::write_new) does. Dropping the
/// copy stops the thread, and leaves no file.
///
/// # Examples
///
/// ```no_run
/// use std::fs::File;
/// use std::path::Path;
///
/// use cpreg_stream::{ExistingFile, PrefixCopy, Stream, convert};
///
/// # fn decide(_: &Stream) -> Option<cpreg::vm::Vm> { None }
/// # fn main() -> Result<(), cpreg_stream::Error> {
/// # let source = File::open("vm.stream").unwrap();
/// let stream = Stream::open(&source)?;
/// let target = Path::new("converted.stream");
/// let copy = PrefixCopy::start(&source, stream.fixed_prefix_len(), target, ExistingFile::Reject);
/// if let Some(planned) = decide(&stream) {
///     let edit = convert(&stream, &source, &planned)?;
///     copy.finish(&edit, None)?;
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping the copy discards the new file"]
pub struct PrefixCopy<'s> {
    source: &'s dyn ReadAt,
    target: PathBuf,
    existing: ExistingFile,
    /// New file; `None` if [`Self::finish`] creates it.
    head: Option<Head>,
}

impl fmt::Debug for PrefixCopy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrefixCopy")
            .field("target", &self.target)
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

impl<'s> PrefixCopy<'s> {
    /// Starts to copy the first `prefix_len` bytes of `source` into a new file for `target`.
    ///
    /// An edit may nevertheless change these bytes. Nothing is copied if the prefix is short, the
    /// source is not a file, or the filesystem of the target has no unnamed files. The same holds
    /// if the target cannot be written; [`Self::finish`] then returns the error.
    pub fn start(
        source: &'s dyn ReadAt,
        prefix_len: u64,
        target: &Path,
        existing: ExistingFile,
    ) -> Self {
        let is_long = prefix_len >= MIN_PREFIX_LEN;
        Self {
            source,
            target: target.to_owned(),
            existing,
            head: is_long
                .then(|| Head::start(source, prefix_len, target, existing))
                .flatten(),
        }
    }

    /// Writes the rest of the edited file, and gives the file its name.
    ///
    /// The result is that of [`write_new`](crate::write_new), whatever was copied. `progress` gets
    /// the number of bytes written and the total number.
    ///
    /// # Errors
    /// Those of [`write_new`](crate::write_new).
    pub fn finish(
        self,
        edit: &Edit,
        progress: Option<&mut dyn FnMut(u64, u64)>,
    ) -> Result<(), Error> {
        check_length(self.source, edit)?;
        let output = OutputTarget::new(self.source.as_file(), &self.target, self.existing)?;
        // A copy that is not valid stops here.
        let head = self.head.filter(|head| head.is_valid(self.source, &output));
        let partial = match head {
            Some(head) => head.stop(edit.old_length()),
            None => PartialFile::create(self.source, edit.old_length(), &output)?,
        };
        write_rest(self.source, edit, output, partial, progress)
    }
}

/// New file that holds a part of the source.
#[derive(Debug)]
struct Head {
    output: OutputTarget,
    file: NewFile,
    content: Content,
    /// Time of the last change of the source before the copy.
    modified: Option<SystemTime>,
}

/// Part of the source that a new file holds.
#[derive(Debug)]
enum Content {
    /// All blocks, shared with the source.
    Shared,
    /// Beginning of the source, as far as a thread has copied it.
    Copied(CopyThread),
}

impl Head {
    fn start(
        source: &dyn ReadAt,
        prefix_len: u64,
        target: &Path,
        existing: ExistingFile,
    ) -> Option<Self> {
        let from = source.as_file()?;
        let output = OutputTarget::new(Some(from), target, existing).ok()?;
        let file = output.create_unnamed()?;
        let modified = modified(source);
        let content = if copy::share_all(from, file.file()) {
            Content::Shared
        } else {
            Content::Copied(CopyThread::start(from, prefix_len, file.file()).ok()?)
        };
        Some(Self {
            output,
            file,
            content,
            modified,
        })
    }

    /// Returns `true` if the file can become that of `output`, and the source is the same as at the
    /// start.
    ///
    /// The target may have become a link to another filesystem, and another process may have
    /// changed the source.
    fn is_valid(&self, source: &dyn ReadAt, output: &OutputTarget) -> bool {
        self.output == *output && self.modified == modified(source)
    }

    /// Stops the copy. `source_len` is the length of the source.
    fn stop(self, source_len: u64) -> PartialFile {
        let held_len = match self.content {
            Content::Shared => source_len,
            Content::Copied(mut thread) => thread.stop(),
        };
        PartialFile {
            file: self.file,
            held_len,
        }
    }
}

/// Returns the time of the last change of the source; `None` if it is not known.
fn modified(source: &dyn ReadAt) -> Option<SystemTime> {
    source.as_file()?.metadata().ok()?.modified().ok()
}

/// Thread that copies the beginning of a file. Dropping it stops the thread.
#[derive(Debug)]
struct CopyThread {
    should_stop: Arc<AtomicBool>,
    /// Thread, which returns the number of bytes copied; `None` after the stop.
    thread: Option<JoinHandle<u64>>,
}

impl CopyThread {
    fn start(from: &File, length: u64, to: &File) -> io::Result<Self> {
        // The clones share the position in the files, which no copy uses.
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        let should_stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&should_stop);
        let thread = thread::Builder::new()
            .name("copy-prefix".into())
            .stack_size(STACK_SIZE)
            .spawn(move || copy_prefix(&from, length.min(MAX_COPY_LEN), &to, &flag))?;
        Ok(Self {
            should_stop,
            thread: Some(thread),
        })
    }

    /// Stops the thread after its current piece, and returns the number of bytes copied.
    fn stop(&mut self) -> u64 {
        self.should_stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take();
        thread
            .and_then(|thread| thread.join().ok())
            .unwrap_or_default()
    }
}

impl Drop for CopyThread {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Copies the first `length` bytes, and returns the number of bytes copied before the stop or an
/// error. The caller copies the rest, and gets the same error.
fn copy_prefix(from: &File, length: u64, to: &File, should_stop: &AtomicBool) -> u64 {
    let mut copied = 0;
    while copied < length && !should_stop.load(Ordering::Relaxed) {
        let end = length.min(copied + PIECE_LEN);
        if copy::copy(from, copied..end, to, copied, &mut |_| {}).is_err() {
            break;
        }
        copied = end;
    }
    copied
}

#[cfg(all(test, unix))]
mod tests;
