//! Recorded streams for the edits, and the pool of their ids and values.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use cpreg_stream::Stream;
use cpreg_stream::{Cpu, ReadAt};

use e2e_framework::Result;
use e2e_framework::paths::repository;

/// Folders of recorded streams below `tests/fixtures`.
const FOLDERS: [&str; 4] = ["tcg", "streams/tcg", "streams/kvm", "streams/edited"];

/// Length in bytes of a block, which becomes a hole if it has only zeros.
const BLOCK: usize = 64 << 10;

/// A recorded stream.
pub(crate) struct Source {
    /// Name, such as `tcg/qemu-10.0-max-running`.
    pub(crate) name: String,
    /// Stream without its RAM.
    pub(crate) bytes: Vec<u8>,
    /// Parsed form of `bytes`.
    pub(crate) stream: Stream,
}

impl Source {
    fn read(name: String, path: &Path) -> Result<Self> {
        let whole = unpack(path)?;
        let stream = Stream::open(&whole)?;
        let edit = stream.without_ram(&[])?;
        let mut bytes = vec![0; usize::try_from(edit.new_length())?];
        edit.apply_to(&whole).read_exact_at(&mut bytes, 0)?;
        let stream = Stream::open(&bytes)?;
        Ok(Self {
            name,
            bytes,
            stream,
        })
    }
}

/// Returns a recorded stream in a temporary file that is removed on close.
pub(crate) fn unpack(path: &Path) -> Result<File> {
    let mut reader = lzma_rust2::XzReader::new(File::open(path)?, true);
    let mut file = tempfile::tempfile()?;
    let mut block = Vec::with_capacity(BLOCK);
    let mut length = 0;
    loop {
        block.clear();
        let count = reader.by_ref().take(BLOCK as u64).read_to_end(&mut block)?;
        if count == 0 {
            break;
        }
        if block.iter().any(|byte| *byte != 0) {
            file.seek(SeekFrom::Start(length))?;
            file.write_all(&block)?;
        }
        length += count as u64;
    }
    file.set_len(length)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

/// Returns all recorded streams, ordered by name.
///
/// # Errors
/// Returns an error if a stream cannot be read, or if the folders have fewer streams than expected.
pub(crate) fn all(jobs: usize) -> Result<Vec<Source>> {
    let mut queue = Vec::new();
    for folder in FOLDERS {
        let path = repository().join("tests/fixtures").join(folder);
        for entry in fs::read_dir(&path)? {
            let path = entry?.path();
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            if let Some(stem) = file.strip_suffix(".stream.xz") {
                queue.push((format!("{folder}/{stem}"), path));
            }
        }
    }
    if queue.len() < 40 {
        return Err(format!("only {} recorded streams in tests/fixtures", queue.len()).into());
    }
    let queue = Mutex::new(queue);
    let read = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().ok().and_then(|mut queue| queue.pop());
                    let Some((name, path)) = next else { return };
                    let source = Source::read(name.clone(), &path)
                        .map_err(|error| format!("{name}: {error}"));
                    if let Ok(mut read) = read.lock() {
                        read.push(source);
                    }
                }
            });
        }
    });
    let read = read.into_inner().unwrap_or_default();
    let mut sources = read
        .into_iter()
        .collect::<std::result::Result<Vec<_>, _>>()?;
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(sources)
}

/// Returns every id that occurs in a source, with all its values.
pub(crate) fn pool(sources: &[Source]) -> BTreeMap<u64, Vec<u64>> {
    let mut pool: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let cpus = sources.iter().flat_map(|source| source.stream.cpus());
    for (id, value) in cpus.flat_map(Cpu::registers) {
        let values = pool.entry(id.raw()).or_default();
        if !values.contains(&value) {
            values.push(value);
        }
    }
    pool
}
