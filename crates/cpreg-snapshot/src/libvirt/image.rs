//! [`Image`]: an open save image.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use cpreg_stream::{
    Edit, ExistingFile, ReadAt, WriteOptions, edit_in_place, write_file_with, write_new, write_to,
};

use super::compression::{compress, decompress};
use super::domain::Domain;
use super::header::{HEADER_LEN, Header, SaveFormat};
use crate::description::{Description, Progress};
use crate::error::{Error, ErrorKind};

/// Open save image.
///
/// A raw or sparse image is read where it is, and no RAM is read. The stream of a compressed image
/// is decompressed into an unnamed temporary file.
#[derive(Debug)]
pub struct Image {
    file: File,
    path: PathBuf,
    length: u64,
    header: Header,
    domain: Domain,
    stream: StreamBytes,
}

/// Bytes of QEMU's stream.
#[derive(Debug)]
enum StreamBytes {
    /// Last part of the image.
    InFile(Tail),
    /// Decompressed copy.
    Unpacked(File),
}

/// Bytes of a file from an offset to the end.
#[derive(Debug)]
struct Tail {
    file: File,
    start: u64,
    length: u64,
}

impl ReadAt for Tail {
    fn length(&self) -> io::Result<u64> {
        Ok(self.length)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file.read_exact_at(buffer, self.start + offset)
    }

    fn file_offset(&self) -> u64 {
        self.start
    }
}

impl Image {
    /// Opens a save image. `path` is the file's name.
    ///
    /// # Errors
    /// - [`ErrorKind::Unfinished`] if libvirt has not finished the image.
    /// - [`ErrorKind::Io`] if a compressed image cannot be decompressed; the hint names a missing
    ///   program.
    /// - If the file cannot be read, or has content that libvirt never writes.
    pub fn open(file: File, path: &Path) -> Result<Self, Error> {
        let unreadable = |error| Error::io("cannot read the file", error);
        let length = ReadAt::length(&file).map_err(unreadable)?;
        let (header, domain) = read_metadata(&file)?;
        let start = header.stream_offset();
        let stream = if header.format.is_compressed() {
            StreamBytes::Unpacked(decompress(header.format, &file, start)?)
        } else {
            StreamBytes::InFile(Tail {
                file: file.try_clone().map_err(unreadable)?,
                start,
                length: length - start,
            })
        };
        Ok(Self {
            file,
            path: path.to_owned(),
            length,
            header,
            domain,
            stream,
        })
    }

    /// Returns the header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the parts of the domain's XML that decide about CPU and machine.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Returns QEMU's stream.
    pub fn stream(&self) -> &dyn ReadAt {
        match &self.stream {
            StreamBytes::InFile(tail) => tail,
            StreamBytes::Unpacked(file) => file,
        }
    }

    /// Returns the kind of the file.
    pub(crate) fn container(&self) -> String {
        match self.header.format {
            SaveFormat::Raw => "save image of libvirt".to_owned(),
            SaveFormat::Sparse => "save image of libvirt, sparse".to_owned(),
            compressed => format!(
                "save image of libvirt, compressed with {}",
                compressed.name()
            ),
        }
    }

    /// Returns the properties that the file holds beside the stream.
    pub fn description(&self) -> Description {
        Description {
            resumes: Some(self.header.was_running),
            ..self.domain.description(self.container())
        }
    }

    /// Writes a save image with the edited stream. XML and cookie stay as they are.
    ///
    /// Returns the length of the new file.
    ///
    /// # Errors
    /// - If the target exists without `overwrite`, or is the image itself.
    /// - If reading, compressing or writing fails.
    pub fn write_new(
        &self,
        edit: &Edit,
        target: &Path,
        overwrite: bool,
        progress: Progress<'_>,
    ) -> Result<u64, Error> {
        if let (StreamBytes::Unpacked(stream), false) = (&self.stream, edit.is_identity()) {
            let existing = ExistingFile::from_overwrite(overwrite);
            return self.write_compressed(stream, edit, target, existing, progress);
        }
        let edit = self.edit_of_file(edit);
        let options = WriteOptions {
            overwrite,
            progress: Some(progress),
        };
        write_new(&self.file, &edit, target, options)?;
        Ok(edit.new_length())
    }

    /// Changes the stream in the image itself, completely or not at all. Returns the image's new
    /// length.
    ///
    /// A raw or sparse image is edited in place, with a journal. A compressed image is compressed
    /// again into a new file, which then replaces the image.
    ///
    /// # Errors
    /// If reading, compressing or writing fails.
    pub fn write_in_place(&self, edit: &Edit, progress: Progress<'_>) -> Result<u64, Error> {
        if edit.is_identity() {
            return Ok(self.length);
        }
        if let StreamBytes::Unpacked(stream) = &self.stream {
            let existing = ExistingFile::ReplaceSource;
            return self.write_compressed(stream, edit, &self.path, existing, progress);
        }
        let edit = self.edit_of_file(edit);
        edit_in_place(&self.file, &edit, &self.path)?;
        Ok(edit.new_length())
    }

    /// Returns an edit of the stream as an edit of the whole file.
    fn edit_of_file(&self, edit: &Edit) -> Edit {
        match &self.stream {
            StreamBytes::InFile(tail) => edit.behind_header(tail.start),
            // The caller handles all other edits of a compressed image.
            StreamBytes::Unpacked(_) => Edit::identity(self.length),
        }
    }

    fn write_compressed(
        &self,
        stream: &File,
        edit: &Edit,
        target: &Path,
        existing: ExistingFile,
        progress: Progress<'_>,
    ) -> Result<u64, Error> {
        let start = self.header.stream_offset();
        let mut length = 0;
        write_file_with(Some(&self.file), target, existing, |new| {
            let header = read(&self.file, 0, start)?;
            let header_length = header.len() as u64;
            let unwritable = |error| Error::io(format!("cannot write {}", target.display()), error);
            let mut to = new;
            io::Write::write_all(&mut to, &header).map_err(unwritable)?;
            compress(self.header.format, new, header_length, |input| {
                Ok(write_to(stream, edit, input, progress)?)
            })?;
            length = ReadAt::length(new).map_err(unwritable)?;
            Ok::<_, Error>(())
        })?;
        Ok(length)
    }
}

/// Reads header and XML of a save image, and nothing of the stream.
///
/// # Errors
/// - [`ErrorKind::Unfinished`] if libvirt has not finished the image.
/// - If the file cannot be read, or has content that libvirt never writes.
pub fn read_metadata(file: &dyn ReadAt) -> Result<(Header, Domain), Error> {
    let length = file.length();
    let length = length.map_err(|error| Error::io("cannot read the file", error))?;
    let header = read(file, 0, length.min(HEADER_LEN as u64))?;
    let header = Header::parse(&header, length)?;
    let xml = read(file, HEADER_LEN as u64, u64::from(header.xml_length()))?;
    // Zeros follow the XML.
    let end = xml.iter().position(|byte| *byte == 0).unwrap_or(xml.len());
    let xml = std::str::from_utf8(&xml[..end])
        .map_err(|_| Error::malformed(HEADER_LEN as u64, "the domain's XML is not UTF-8"))?;
    let domain = Domain::parse(xml).map_err(|error| error.at_offset(HEADER_LEN as u64))?;
    Ok((header, domain))
}

/// Reads a part of the file, of at most [`Header::stream_offset`] bytes.
fn read(file: &dyn ReadAt, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
    let count = usize::try_from(length)
        .map_err(|_| Error::new(ErrorKind::Unsupported, "the XML is too long for memory"))?;
    let mut bytes = vec![0; count];
    let failed = |error| Error::io("cannot read the file", error).at_offset(offset);
    file.read_exact_at(&mut bytes, offset).map_err(failed)?;
    Ok(bytes)
}
