//! Numbers, texts and lists as bytes, from which [`crate::protocol`] builds messages. Integers are
//! little-endian.
//!
//! The input is hostile. No allocation exceeds the bound that the input's own length gives.

use std::fmt;

use cpreg::register::{RegisterId, Value};
use cpreg::vm::{Registers, Vcpu, Vm};

/// Error of a message that cannot be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedMessage(
    /// Position or cause.
    pub &'static str,
);

impl fmt::Display for MalformedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot parse a message of the other end: {}", self.0)
    }
}

impl std::error::Error for MalformedMessage {}

/// Maximum number of vCPUs of a VM.
pub const MAX_VCPUS: u16 = 512;
/// Maximum length of a text, in bytes.
const MAX_TEXT: usize = 4096;
/// Length of the widest register: 2048 bits, a vector of SVE.
const MAX_REGISTER_LEN: usize = 256;

/// Writer of a message.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Appends a byte.
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    /// Appends two bytes.
    pub fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends four bytes.
    pub fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Appends the number of elements that follow.
    pub fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Appends a text: its length in four bytes, then UTF-8. Truncates it at the limit.
    pub fn text(&mut self, text: &str) {
        let mut end = text.len().min(MAX_TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let text = text.get(..end).unwrap_or_default();
        self.count(text.len());
        self.bytes(text.as_bytes());
    }

    /// Appends texts.
    pub fn texts(&mut self, texts: &[String]) {
        self.count(texts.len());
        for text in texts {
            self.text(text);
        }
    }

    /// Appends the registers of a VM. Each vCPU is a number of registers. Each register is its id
    /// in eight bytes, then its value in the size that the id gives.
    pub fn vm(&mut self, vm: &Vm) {
        self.count(vm.vcpus.len());
        for vcpu in &vm.vcpus {
            self.count(vcpu.registers.len());
            for (id, value) in vcpu.registers.iter() {
                self.u64(id.raw());
                let size = id.size_bytes().unwrap_or_default();
                match value {
                    Value::U64(value) => {
                        let bytes = value.to_le_bytes();
                        self.bytes(bytes.get(..size).unwrap_or(&bytes));
                    }
                    Value::Bytes(bytes) => self.bytes(bytes),
                }
            }
        }
    }

    /// Returns the bytes written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Reader of a message.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Creates a reader of these bytes.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Reads `count` bytes.
    ///
    /// # Errors
    /// Returns an error if fewer bytes are left. Every other method also fails if the bytes do not
    /// encode its type.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], MalformedMessage> {
        let (bytes, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(MalformedMessage("it is truncated"))?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], MalformedMessage> {
        let bytes = self.bytes(N)?.first_chunk();
        bytes.copied().ok_or(MalformedMessage("it is truncated"))
    }

    /// Reads a byte.
    ///
    /// # Errors
    /// As for [`Self::bytes`].
    pub fn u8(&mut self) -> Result<u8, MalformedMessage> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// Reads two bytes.
    ///
    /// # Errors
    /// As for [`Self::bytes`].
    pub fn u16(&mut self) -> Result<u16, MalformedMessage> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Reads four bytes.
    ///
    /// # Errors
    /// As for [`Self::bytes`].
    pub fn u32(&mut self) -> Result<u32, MalformedMessage> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Reads eight bytes.
    ///
    /// # Errors
    /// As for [`Self::bytes`].
    pub fn u64(&mut self) -> Result<u64, MalformedMessage> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Reads the number of elements that follow, each of at least `element` bytes.
    ///
    /// # Errors
    /// As for [`Self::bytes`], and if that many elements cannot follow.
    pub fn count(&mut self, element: usize) -> Result<usize, MalformedMessage> {
        let count = self.u32()? as usize;
        if count > self.0.len() / element.max(1) {
            return Err(MalformedMessage("a count exceeds the bytes that follow"));
        }
        Ok(count)
    }

    /// Reads a text.
    ///
    /// # Errors
    /// As for [`Self::bytes`].
    pub fn text(&mut self) -> Result<String, MalformedMessage> {
        let length = self.count(1)?;
        if length > MAX_TEXT {
            return Err(MalformedMessage("a text is too long"));
        }
        let bytes = self.bytes(length)?.to_vec();
        let text = String::from_utf8(bytes).map_err(|_| MalformedMessage("a text is not UTF-8"))?;
        // Texts are printed, so control characters of a terminal are replaced.
        Ok(text.replace(|char: char| char.is_control() && char != '\n', "?"))
    }

    /// Reads texts.
    ///
    /// # Errors
    /// As for [`Self::bytes`].
    pub fn texts(&mut self) -> Result<Vec<String>, MalformedMessage> {
        let count = self.count(4)?;
        (0..count).map(|_| self.text()).collect()
    }

    /// Reads the registers of a VM.
    ///
    /// # Errors
    /// As for [`Self::bytes`].
    pub fn vm(&mut self) -> Result<Vm, MalformedMessage> {
        let count = self.count(4)?;
        if count > usize::from(MAX_VCPUS) {
            return Err(MalformedMessage("too many vCPUs"));
        }
        let mut vm = Vm::default();
        for _ in 0..count {
            let count = self.count(9)?;
            let mut pairs = Vec::new();
            for _ in 0..count {
                pairs.push(self.register()?);
            }
            let registers = Registers::from_pairs(pairs)
                .map_err(|_| MalformedMessage("a register occurs twice"))?;
            vm.vcpus.push(Vcpu {
                registers,
                ..Vcpu::default()
            });
        }
        Ok(vm)
    }

    fn register(&mut self) -> Result<(RegisterId, Value), MalformedMessage> {
        let id = RegisterId::from_raw(self.u64()?);
        let size = id.size_bytes().filter(|size| *size <= MAX_REGISTER_LEN);
        let bytes = self.bytes(size.ok_or(MalformedMessage("a register of no known size"))?)?;
        let value = if bytes.len() > 8 {
            Value::Bytes(bytes.into())
        } else {
            let mut word = [0; 8];
            if let Some(low) = word.get_mut(..bytes.len()) {
                low.copy_from_slice(bytes);
            }
            Value::U64(u64::from_le_bytes(word))
        };
        Ok((id, value))
    }

    /// Checks that no bytes follow.
    ///
    /// # Errors
    /// Returns an error if bytes follow.
    pub const fn expect_end(&self) -> Result<(), MalformedMessage> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(MalformedMessage("unexpected bytes follow"))
        }
    }
}
