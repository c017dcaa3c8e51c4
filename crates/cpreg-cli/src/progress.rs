//! Progress on standard error, if standard error is a terminal.
//!
//! [`Progress`] is a line for a stream of unknown length. [`FileProgress`] is a bar for a file: it
//! appears if the operation takes longer than [`DELAY`], and vanishes at its end.

use std::cell::Cell;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use cpreg_report::printer::escape_control;
use cpreg_stream::ReadAt;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Time after which the bar of an operation appears.
const DELAY: Duration = Duration::from_secs(1);

/// Layout of the bar: action and file, bar, bytes, rate, remaining time.
const BAR_TEMPLATE: &str =
    "{msg}: {percent:>3} % [{bar:20}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";

/// Progress line of a stream whose length is not known.
#[derive(Default)]
pub(crate) struct Progress {
    /// Progress line on the terminal; `None` if no line is shown.
    line: Option<ProgressBar>,
    /// Number of MiB shown last.
    last_reported: Option<u64>,
}

impl Progress {
    /// Shows the phase and the number of forwarded bytes, at most once per 16 MiB.
    pub(crate) fn show_forwarded(&mut self, phase: impl Display, done: u64) {
        let mebibytes = done >> 20;
        if self.last_reported.is_none_or(|last| last + 16 <= mebibytes) {
            self.last_reported = Some(mebibytes);
            self.show(format!("forwarding: {phase:12} {mebibytes} MiB"));
        }
    }

    /// Shows the phase, the number of forwarded bytes, and the rate in MiB/s.
    pub(crate) fn show_rate(&mut self, phase: impl Display, done: u64, rate: f64) {
        let mebibytes = done >> 20;
        self.show(format!(
            "forwarding: {phase}, {mebibytes} MiB, {rate:.1} MiB/s"
        ));
    }

    /// Shows the text as the progress line.
    fn show(&mut self, text: String) {
        let line = self.line.get_or_insert_with(|| {
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
                .with_style(style("{msg}"))
        });
        line.set_message(text);
    }

    /// Removes the progress line from the terminal.
    pub(crate) fn end(&mut self) {
        self.last_reported = None;
        if let Some(line) = self.line.take() {
            line.finish_and_clear();
        }
    }
}

/// Returns the style of a template of this file.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Progress bar of an operation on a file. Dropping it removes the bar.
pub(crate) struct FileProgress {
    bar: ProgressBar,
    start: Instant,
    delay: Duration,
    is_shown: Cell<bool>,
}

impl FileProgress {
    /// Begins an operation on the file, such as `writing`, of `total` bytes.
    pub(crate) fn new(action: &str, path: &Path, total: u64) -> Self {
        let file = escape_control(&path.display().to_string(), false);
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        Self {
            bar: bar
                .with_style(style(BAR_TEMPLATE).progress_chars("=> "))
                .with_message(format!("{action} {file}")),
            start: Instant::now(),
            delay: DELAY,
            is_shown: Cell::new(false),
        }
    }

    /// Sets the number of bytes done. A smaller number than before is ignored.
    pub(crate) fn advance_to(&self, done: u64) {
        if done <= self.bar.position() {
            return;
        }
        if !self.is_shown.get() && self.start.elapsed() >= self.delay {
            self.is_shown.set(true);
            // Draws nothing if standard error is not a terminal.
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_position(done);
    }

    /// Sets the number of bytes done, of another total.
    pub(crate) fn advance_to_of(&self, done: u64, total: u64) {
        self.bar.set_length(total);
        self.advance_to(done);
    }
}

impl Drop for FileProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Source whose scan from the first to the last byte moves a bar.
pub(crate) struct ScannedFile<'a> {
    source: &'a dyn ReadAt,
    progress: FileProgress,
}

impl<'a> ScannedFile<'a> {
    /// Begins the scan of the file at `path`.
    pub(crate) fn new(source: &'a dyn ReadAt, path: &Path) -> Self {
        let length = source.length().unwrap_or(0);
        Self {
            source,
            progress: FileProgress::new("checking", path, length),
        }
    }
}

impl ReadAt for ScannedFile<'_> {
    fn length(&self) -> io::Result<u64> {
        self.source.length()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.source.read_exact_at(buffer, offset)?;
        self.progress.advance_to(offset + buffer.len() as u64);
        Ok(())
    }

    fn as_file(&self) -> Option<&File> {
        self.source.as_file()
    }

    fn file_offset(&self) -> u64 {
        self.source.file_offset()
    }
}

/// Compressed file whose decompression moves a bar.
pub(crate) struct CompressedFile {
    file: File,
    done: u64,
    progress: FileProgress,
}

impl CompressedFile {
    /// Begins the decompression of the file at `path`.
    pub(crate) fn new(file: File, path: &Path) -> Self {
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        Self {
            file,
            done: 0,
            progress: FileProgress::new("decompressing", path, length),
        }
    }
}

impl Read for CompressedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.done += count as u64;
        self.progress.advance_to(self.done);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(content).expect("a file");
        io::Seek::rewind(&mut file).expect("a file");
        file
    }

    #[test]
    fn a_bar_appears_after_its_delay_and_never_moves_back() {
        let mut progress = FileProgress::new("writing", Path::new("a\x1b[2Jb"), 10);
        assert_eq!(progress.bar.message(), "writing a\\u{1b}[2Jb");
        progress.advance_to(3);
        assert!(!progress.is_shown.get(), "the delay has not passed");
        progress.delay = Duration::ZERO;
        progress.advance_to(7);
        assert!(progress.is_shown.get());
        progress.advance_to(5);
        assert_eq!(progress.bar.position(), 7);
        progress.advance_to_of(8, 20);
        assert_eq!(
            (progress.bar.position(), progress.bar.length()),
            (8, Some(20))
        );
    }

    #[test]
    fn wrapped_files_have_the_same_content() {
        let content: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        let original = file(&content);
        let scanned = ScannedFile::new(&original, Path::new("file"));
        let mut bytes = vec![0; 1000];
        scanned.read_exact_at(&mut bytes, 9000).expect("bytes");
        assert_eq!(bytes, content[9000..]);
        assert_eq!(scanned.progress.bar.position(), 10_000);
        assert_eq!(scanned.length().expect("a length"), 10_000);
        assert!(scanned.read_exact_at(&mut bytes, 9001).is_err());

        let mut compressed = CompressedFile::new(file(&content), Path::new("file"));
        let mut bytes = Vec::new();
        compressed.read_to_end(&mut bytes).expect("bytes");
        assert_eq!(bytes, content);
        assert_eq!(compressed.progress.bar.position(), 10_000);
    }
}
