//! The text form of a [`HostIndex`]: what is alike is written once.
//!
//! | line | what it says |
//! |---|---|
//! | `# …` | a comment |
//! | `cpreg-history 2` | the form and its version; the first line that is no comment |
//! | `kernel RELEASE BUILD` | a kernel, as `uname -r` and `-v` call it; numbered from 0 |
//! | `capabilities NAME=NUMBER…` | what hosts say they can do; numbered from 0 |
//! | `host KERNEL CPU MODE MIDR emulated\|real CAPABILITIES` | a host, numbered from 0 |
//! | `recording HOST FEATURES [masks]` | a recording, numbered from 0; `masks`: the kernel tells what may be written |
//! | `set DIGITS` | a set of recordings, numbered from 0; each hexadecimal digit stands for four, the first for 0 (its lowest bit) to 3 |
//! | `trials TRIAL…` | what was tried on a register, numbered from 0 |
//! | `register ID WORD…` | a register, and what is said of it in which recordings |
//!
//! | word of a register | what it says |
//! |---|---|
//! | `0xVALUE:SET` | it is listed, and holds this at reset |
//! | `poison:SET`, `counts:SET`, `errnoN:SET` | it is listed, and holds no value, or runs on, or cannot be read |
//! | `writable=MASK:SET` | these bits may be written |
//! | `refused=ERRNO:SET` | writing back what was read fails |
//! | `differs_by_vcpu:SET` | another vCPU of the VM held something else |
//! | `tried=TRIALS:SET` | what was tried |
//!
//! A trial is `0xVALUE` if it was taken, `0xVALUE=ERRNO` if not; `>0xREADS` behind it where it then read something else than the
//! value that was taken, or than what the register held. Words of a kernel or host that would not be one are escaped: `%20` is a
//! space, `-` nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cpreg::destination::Features;
use cpreg::register::{RegisterId, Value, parse_hexadecimal};

use super::{
    HostEntry, HostIndex, KernelRecord, NormalizedTrial, Recording, RecordingSet, RegisterFacts,
};
use crate::error::{Error, ErrorKind};
use crate::record::{AtReset, Capabilities, Identity};

/// The first line.
const FORMAT_HEADER: &str = "cpreg-history 2";

/// The checked-in recordings.
pub(super) const BUILT_IN: &str = include_str!("../../data/history.txt");

impl HostIndex {
    /// The recordings that come with cpreg.
    ///
    /// # Errors
    /// If the checked-in text is none of ours, which a test rules out.
    pub fn built_in() -> Result<Self, Error> {
        Self::parse(BUILT_IN)
    }

    /// The text form.
    pub fn to_text(&self) -> String {
        let mut sets = Numbering::default();
        let mut trials = Numbering::default();
        let mut registers = String::new();
        for (id, facts) in &self.registers {
            let _ = write!(registers, "register {:016x}", id.raw());
            for (value, set) in &facts.at_reset {
                let _ = write!(
                    registers,
                    " {}:{}",
                    format_at_reset(value),
                    sets.number(set)
                );
            }
            for (mask, set) in &facts.writable {
                let _ = write!(registers, " writable={mask:#x}:{}", sets.number(set));
            }
            for (errno, set) in &facts.write_back_errors {
                let _ = write!(registers, " refused={errno}:{}", sets.number(set));
            }
            if facts.differs_by_vcpu != RecordingSet::default() {
                let _ = write!(
                    registers,
                    " differs:{}",
                    sets.number(&facts.differs_by_vcpu)
                );
            }
            for (tried, set) in &facts.trials {
                let (tried, set) = (trials.number(tried), sets.number(set));
                let _ = write!(registers, " tried={tried}:{set}");
            }
            registers.push('\n');
        }
        let mut text = format!("{FORMAT_HEADER}\n");
        for kernel in &self.kernels {
            let (release, build) = (escape(&kernel.release), escape(&kernel.build));
            let _ = writeln!(text, "kernel {release} {build}");
        }
        let mut capabilities = Numbering::default();
        let mut hosts = String::new();
        for host in &self.hosts {
            let identity = &host.identity;
            let _ = writeln!(
                hosts,
                "host {} {} {} {:#x} {} {}",
                host.kernel,
                escape(&identity.cpu),
                escape(&identity.mode),
                identity.midr,
                if identity.emulated { EMULATED } else { REAL },
                capabilities.number(&host.capabilities),
            );
        }
        for set in capabilities.ordered() {
            text.push_str("capabilities");
            for (name, number) in set {
                let _ = write!(text, " {}={number}", escape(name));
            }
            text.push('\n');
        }
        text += &hosts;
        for recording in &self.recordings {
            let masks = if recording.has_writable_masks {
                " masks"
            } else {
                ""
            };
            let (host, features) = (recording.host, recording.features);
            let _ = writeln!(text, "recording {host} {features}{masks}");
        }
        for set in sets.ordered() {
            let _ = writeln!(text, "set {}", format_set(set));
        }
        for tried in trials.ordered() {
            text.push_str("trials");
            for tried in tried {
                let _ = write!(text, " {:#x}", tried.value);
                if tried.errno != 0 {
                    let _ = write!(text, "={}", tried.errno);
                }
                if let Some(reads) = tried.read_back {
                    let _ = write!(text, ">{reads:#x}");
                }
            }
            text.push('\n');
        }
        text + &registers
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// If a line is not of the form that the module describes, or names what is not there.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut reading = Parser::default();
        let mut is_begun = false;
        for (number, line) in text.lines().enumerate() {
            let error = |what| line_error(number + 1, what);
            if line.starts_with('#') {
                continue;
            }
            if is_begun {
                reading.parse_line(line).map_err(error)?;
            } else if line == FORMAT_HEADER {
                is_begun = true;
            } else {
                return Err(error("it does not begin with `cpreg-history 2`"));
            }
        }
        if is_begun {
            Ok(reading.history)
        } else {
            Err(line_error(1, "it is empty"))
        }
    }
}

/// Returns the error for a line, counted from 1.
fn line_error(line: usize, what: &str) -> Error {
    let message = format!("line {line} of the history: {what}");
    Error::new(ErrorKind::HostIndex, message).with_path(format!("line {line}"))
}

const EMULATED: &str = "emulated";
const REAL: &str = "real";

/// Different things, numbered as they are met.
struct Numbering<'a, T> {
    numbers: BTreeMap<&'a T, usize>,
}

impl<T> Default for Numbering<'_, T> {
    fn default() -> Self {
        Self {
            numbers: BTreeMap::new(),
        }
    }
}

impl<'a, T: Ord> Numbering<'a, T> {
    fn number(&mut self, thing: &'a T) -> usize {
        let next = self.numbers.len();
        *self.numbers.entry(thing).or_insert(next)
    }

    fn ordered(&self) -> Vec<&'a T> {
        let mut ordered: Vec<_> = self.numbers.iter().collect();
        ordered.sort_by_key(|(_, number)| **number);
        ordered.into_iter().map(|(thing, _)| *thing).collect()
    }
}

/// A word that is one: nothing is `-`, and what would end it or be taken for something else has its bytes as `%20`.
fn escape(text: &str) -> String {
    match text {
        "" => return "-".to_owned(),
        "-" => return "%2d".to_owned(),
        _ => {}
    }
    let mut word = String::new();
    for letter in text.chars() {
        if letter.is_whitespace() || letter.is_control() || "%=".contains(letter) {
            for byte in letter.to_string().bytes() {
                let _ = write!(word, "%{byte:02x}");
            }
        } else {
            word.push(letter);
        }
    }
    word
}

fn unescape(word: &str) -> ParseResult<String> {
    const MALFORMED: &str = "a word with a % that stands for nothing";
    if word == "-" {
        return Ok(String::new());
    }
    let mut parts = word.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).ok_or(MALFORMED)?;
        bytes.extend(hex::decode(digits).map_err(|_| MALFORMED)?);
        bytes.extend(rest.as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| MALFORMED)
}

fn format_set(set: &RecordingSet) -> String {
    let mut digits = String::new();
    for word in &set.0 {
        for digit in 0..16 {
            let _ = write!(digits, "{:x}", word >> (4 * digit) & 0xf);
        }
    }
    digits.trim_end_matches('0').to_owned()
}

type ParseResult<T> = Result<T, &'static str>;

fn parse_set(digits: &str, recordings: usize) -> ParseResult<RecordingSet> {
    let mut set = RecordingSet::default();
    for (at, digit) in digits.chars().enumerate() {
        let digit = digit.to_digit(16).ok_or("a set with other than digits")?;
        for bit in 0..4 {
            let number = 4 * at + bit;
            if digit >> bit & 1 == 1 {
                if number >= recordings {
                    return Err("a set with a recording that is not there");
                }
                set.insert(number);
            }
        }
    }
    Ok(set)
}

/// What is read so far.
#[derive(Default)]
struct Parser {
    history: HostIndex,
    capabilities: Vec<Capabilities>,
    sets: Vec<RecordingSet>,
    trials: Vec<Vec<NormalizedTrial>>,
}

impl Parser {
    fn parse_line(&mut self, line: &str) -> ParseResult<()> {
        let mut words = line.split(' ');
        match words.next() {
            Some("kernel") => self.history.kernels.push(parse_kernel(words)?),
            Some("capabilities") => self.capabilities.push(parse_capabilities(words)?),
            Some("host") => {
                let host = self.parse_host(words)?;
                self.history.hosts.push(host);
            }
            Some("recording") => {
                let recording = self.parse_recording(words)?;
                self.history.recordings.push(recording);
            }
            Some("set") => {
                let digits = words.next().ok_or("a set without digits")?;
                self.sets
                    .push(parse_set(digits, self.history.recordings.len())?);
            }
            Some("trials") => self
                .trials
                .push(words.map(parse_trial).collect::<ParseResult<_>>()?),
            Some("register") => {
                let id = words.next().and_then(|id| u64::from_str_radix(id, 16).ok());
                let id = RegisterId::from_raw(id.ok_or("a register without an id")?);
                let facts = self.parse_facts(id, words)?;
                if self.history.registers.insert(id, facts).is_some() {
                    return Err("a register twice");
                }
            }
            _ => return Err("no kernel, host, recording, set or register"),
        }
        Ok(())
    }

    fn parse_host<'a>(&self, mut words: impl Iterator<Item = &'a str>) -> ParseResult<HostEntry> {
        let mut word = || words.next().ok_or("a host with too few words");
        let kernel = self.parse_kernel_number(word()?)?;
        let (cpu, mode) = (unescape(word()?)?, unescape(word()?)?);
        let midr = parse_number(word()?)?;
        let emulated = match word()? {
            EMULATED => true,
            REAL => false,
            _ => return Err("a host that is neither emulated nor real"),
        };
        let capabilities = word()?.parse().ok();
        let capabilities = capabilities.and_then(|number: usize| self.capabilities.get(number));
        let of = &self.history.kernels[kernel];
        Ok(HostEntry {
            kernel,
            identity: Identity {
                release: of.release.clone(),
                version: of.build.clone(),
                midr,
                cpu,
                mode,
                emulated,
            },
            capabilities: capabilities
                .ok_or("a host with capabilities that are not there")?
                .clone(),
        })
    }

    /// The number of a kernel that is there.
    fn parse_kernel_number(&self, word: &str) -> ParseResult<usize> {
        let number = word.parse().ok();
        let known = number.filter(|number| *number < self.history.kernels.len());
        known.ok_or("a host of no kernel")
    }

    fn parse_recording<'a>(
        &self,
        mut words: impl Iterator<Item = &'a str>,
    ) -> ParseResult<Recording> {
        let number = words.next().and_then(|number| number.parse().ok());
        let number: usize = number.ok_or("a recording of no host")?;
        let host = self.history.hosts.get(number);
        let host = host.ok_or("a recording of no host")?;
        let features = words.next().and_then(Features::from_names);
        Ok(Recording {
            host: number,
            kernel: host.kernel,
            cpu: host.identity.cpu.clone(),
            mode: host.identity.mode.clone(),
            features: features.ok_or("a recording without features")?,
            has_writable_masks: words.next() == Some("masks"),
        })
    }

    fn parse_facts<'a>(
        &self,
        id: RegisterId,
        words: impl Iterator<Item = &'a str>,
    ) -> ParseResult<RegisterFacts> {
        const MALFORMED: &str = "a word of a register that is not WHAT:SET";
        let mut facts = RegisterFacts::default();
        for word in words {
            let (what, set) = word.split_once(':').ok_or(MALFORMED)?;
            let set = set.parse().ok();
            let set = set.and_then(|set: usize| self.sets.get(set));
            let set = set.ok_or("a set that is not there")?.clone();
            if let Some(mask) = what.strip_prefix("writable=") {
                facts.writable.insert(parse_number(mask)?, set);
            } else if let Some(errno) = what.strip_prefix("refused=") {
                let errno = errno.parse().map_err(|_| MALFORMED)?;
                facts.write_back_errors.insert(errno, set);
            } else if what == "differs" {
                facts.differs_by_vcpu = set;
            } else if let Some(trials) = what.strip_prefix("tried=") {
                let trials = trials.parse().ok();
                let trials = trials.and_then(|number: usize| self.trials.get(number));
                let trials = trials.ok_or("trials that are not there")?;
                facts.trials.insert(trials.clone(), set);
            } else {
                facts.at_reset.insert(parse_at_reset(id, what)?, set);
            }
        }
        Ok(facts)
    }
}

fn parse_kernel<'a>(mut words: impl Iterator<Item = &'a str>) -> ParseResult<KernelRecord> {
    let mut word = || unescape(words.next().ok_or("a kernel needs release and build")?);
    Ok(KernelRecord::from_identity(&Identity {
        release: word()?,
        version: word()?,
        ..Identity::default()
    }))
}

fn parse_capabilities<'a>(words: impl Iterator<Item = &'a str>) -> ParseResult<Capabilities> {
    const MALFORMED: &str = "a capability that is not NAME=NUMBER";
    let named = words.map(|word| {
        let (name, number) = word.split_once('=').ok_or(MALFORMED)?;
        Ok((unescape(name)?, number.parse().map_err(|_| MALFORMED)?))
    });
    named.collect()
}

fn parse_trial(word: &str) -> ParseResult<NormalizedTrial> {
    let (word, reads) = match word.split_once('>') {
        Some((word, reads)) => (word, Some(parse_number(reads)?)),
        None => (word, None),
    };
    let (value, errno) = word.split_once('=').unwrap_or((word, "0"));
    Ok(NormalizedTrial {
        value: parse_number(value)?,
        errno: errno.parse().map_err(|_| "an errno that is no number")?,
        read_back: reads,
    })
}

fn format_at_reset(at_reset: &AtReset) -> String {
    match at_reset {
        AtReset::Value(value) => value.to_string(),
        AtReset::Poison => "poison".to_owned(),
        AtReset::Counter => "counts".to_owned(),
        AtReset::Unreadable(errno) => format!("errno{errno}"),
    }
}

fn parse_at_reset(id: RegisterId, word: &str) -> ParseResult<AtReset> {
    match word {
        "poison" => return Ok(AtReset::Poison),
        "counts" => return Ok(AtReset::Counter),
        _ => {}
    }
    if let Some(errno) = word.strip_prefix("errno") {
        let errno = errno.parse().map_err(|_| "an errno that is no number")?;
        return Ok(AtReset::Unreadable(errno));
    }
    let value = Value::parse(id, word).ok_or(INVALID_VALUE)?;
    Ok(AtReset::Value(value))
}

const INVALID_VALUE: &str = "a value that is no hexadecimal number, or does not fit its register";

fn parse_number(text: &str) -> ParseResult<u64> {
    parse_hexadecimal(text).ok_or(INVALID_VALUE)
}
