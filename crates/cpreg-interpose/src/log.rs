//! Messages and events: standard error, the log of the policy, and the memory file that
//! `cpreg run --status` reads.
#![expect(unsafe_code, reason = "descriptors that the VMM inherited")]

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use cpreg_vcpu_filter::Event;
use cpreg_vcpu_filter::policy::{LogFormat, LogOutput, LogTarget};
use cpreg_vcpu_filter::run_event::{RunEvent, RunEventDetails, join};
use cpreg_vcpu_filter::run_status::STATUS_FILE;

/// Prefix of each message.
const PREFIX: &str = "cpreg:";
/// Note about ignored registers.
const NEXT_DESTINATION: &str = "the ignored registers leave with the VM again if the VMM is QEMU: \
                                its next destination needs `cpreg run`, `cpreg relay` or `cpreg \
                                convert`";
/// Maximum length of the memory file.
const MAX_STATUS_LEN: usize = 16 << 20;

/// Prints a message. A failure to print changes nothing.
pub(crate) fn print(message: impl std::fmt::Display) {
    // One write keeps the lines of a message together.
    let text = format!("{PREFIX} {message}\n");
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Log of the events of a process.
pub(crate) struct Log {
    state: Mutex<State>,
}

struct State {
    file: Option<(Output, LogFormat)>,
    status: Option<Output>,
    status_len: usize,
    /// Number of the vCPU that loaded last, and the text of its load. Many vCPUs load alike.
    last_load: (usize, String),
}

/// Open file, which the VMM may close.
struct Output {
    /// Never closed, because the VMM may have closed the descriptor and opened it again.
    file: ManuallyDrop<File>,
    device: u64,
    inode: u64,
}

impl Output {
    fn new(file: File) -> Option<Self> {
        let metadata = file.metadata().ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            file: ManuallyDrop::new(file),
        })
    }

    /// Writes a line. Returns `false` if the descriptor is no longer that of the file: a VMM that
    /// closes all descriptors may open its own files with the same numbers.
    fn write(&mut self, text: &str) -> bool {
        let metadata = self.file.metadata();
        let is_same = metadata
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == (self.device, self.inode));
        is_same && self.file.write_all(text.as_bytes()).is_ok()
    }
}

impl Log {
    /// Opens the log of the policy, and the memory file.
    pub(crate) fn new(target: Option<&LogTarget>) -> Self {
        let file = target.and_then(|target| {
            let output = open(&target.output);
            if output.is_none() {
                print(format_args!(
                    "cannot open the log {:?}; events are not written",
                    target.output
                ));
            }
            output.map(|output| (output, target.format))
        });
        Self {
            state: Mutex::new(State {
                file,
                status: open_status(),
                status_len: 0,
                last_load: (usize::MAX, String::new()),
            }),
        }
    }

    /// Reports an event.
    pub(crate) fn event(&self, event: &Event) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH);
        let time = time.map_or(0.0, |time| time.as_secs_f64());
        let line = |details| {
            let event = RunEvent::new(time, std::process::id(), details);
            // Texts, numbers and lists always serialise.
            serde_json::to_string(&event).unwrap_or_default() + "\n"
        };
        let details = RunEventDetails::from_event(event);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let text = text(event, &details).filter(|text| state.is_new(event, text));
        if let Some(text) = &text {
            print(text);
        }
        let json = line(details);
        let is_written = match (&mut state.file, &text) {
            (Some((output, LogFormat::Json)), _) => output.write(&json),
            (Some((output, LogFormat::Text)), Some(text)) => {
                output.write(&format!("{PREFIX} {text}\n"))
            }
            _ => true,
        };
        if !is_written {
            state.file = None;
        }
        let end = state.status_len.saturating_add(json.len());
        let json = match end {
            0..MAX_STATUS_LEN => json,
            _ if state.status_len < MAX_STATUS_LEN => line(RunEventDetails::Truncated),
            _ => return,
        };
        state.status_len = end;
        if state
            .status
            .as_mut()
            .is_some_and(|status| !status.write(&json))
        {
            state.status = None;
        }
    }
}

impl State {
    /// Returns `true` if the text says more than that of the vCPU before. A new load of the VM
    /// begins again with the first vCPU.
    fn is_new(&mut self, event: &Event, text: &str) -> bool {
        let Event::Loaded { vcpu, .. } = event else {
            return true;
        };
        let load = text.replacen(&format!("vCPU {vcpu}:"), "", 1);
        let is_new = *vcpu <= self.last_load.0 || load != self.last_load.1;
        self.last_load = (*vcpu, load);
        is_new
    }
}

fn open(output: &LogOutput) -> Option<Output> {
    let file = match output {
        LogOutput::File(path) => OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .ok()?,
        LogOutput::Descriptor(descriptor) => {
            // SAFETY: The user gives the descriptor to the library, which never closes it.
            unsafe { File::from_raw_fd(*descriptor) }
        }
    };
    Output::new(file)
}

/// Creates the memory file, which programs that the VMM starts do not inherit.
fn open_status() -> Option<Output> {
    let name = CString::new(STATUS_FILE).ok()?;
    // SAFETY: The name ends with a zero byte.
    let descriptor = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    // SAFETY: The descriptor was just opened.
    (descriptor >= 0)
        .then(|| unsafe { File::from_raw_fd(descriptor) })
        .and_then(Output::new)
}

/// Returns the message of an event. A list is no news to a person.
fn text(event: &Event, details: &RunEventDetails) -> Option<String> {
    Some(match (event, details) {
        (Event::Refused(refusal), _) => refusal.to_string(),
        (
            _,
            RunEventDetails::Loaded {
                vcpu,
                ignored,
                changed,
            },
        ) => {
            let mut text = format!(
                "vCPU {vcpu}: the incoming VM loads; ignored: {}; changed: {}",
                join(ignored),
                join(changed)
            );
            if !ignored.is_empty() {
                text.push_str("\n  ");
                text.push_str(NEXT_DESTINATION);
            }
            text
        }
        (_, RunEventDetails::SettingsRefused { vcpu, settings }) => {
            let settings = settings.iter().map(|setting| format!("\n  {setting}"));
            format!(
                "refused: the kernel does not accept settings of vCPU {vcpu}; remove them from \
                 --born-with or the baseline, or choose another host{}",
                settings.collect::<String>()
            )
        }
        (_, RunEventDetails::SettingReplaced { vcpu, register }) => format!(
            "vCPU {vcpu}: the VMM replaced the setting of {} by {}",
            register.name,
            register.value.as_deref().unwrap_or_default()
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use cpreg::register::{RegisterId, Value};

    use super::*;

    fn load(vcpu: usize, value: u64) -> Event {
        Event::Loaded {
            vcpu,
            ignored: vec![(RegisterId::PIR_EL1, Value::U64(value))],
            changed: Vec::new(),
        }
    }

    #[test]
    fn the_log_and_the_memory_file_have_every_event() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let log = Log::new(Some(&LogTarget {
            output: LogOutput::File(path.clone()),
            format: LogFormat::Json,
        }));
        log.event(&load(0, 9));
        log.event(&load(1, 9));
        let text = std::fs::read_to_string(&path).expect("the log");
        let events = text.lines().map(serde_json::from_str);
        let events: Vec<RunEvent> = events.collect::<Result<_, _>>().expect("events");
        assert_eq!(events.len(), 2);
        assert_eq!(events[1].event, RunEventDetails::from_event(&load(1, 9)));
        let state = log.state.lock().expect("no panic");
        let status = state.status.as_ref().expect("a memory file");
        let link = format!("/proc/self/fd/{}", status.file.as_raw_fd());
        assert_eq!(std::fs::read_to_string(&link).expect("the events"), text);
        let target = std::fs::read_link(&link).expect("a link");
        assert_eq!(target.to_str(), Some("/memfd:cpreg-run (deleted)"));
    }

    #[test]
    fn vcpus_that_load_alike_have_one_message() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let log = Log::new(Some(&LogTarget {
            output: LogOutput::File(path.clone()),
            format: LogFormat::Text,
        }));
        for (vcpu, value) in [(0, 9), (1, 9), (2, 9), (3, 8), (0, 8), (1, 8)] {
            log.event(&load(vcpu, value));
        }
        let text = std::fs::read_to_string(&path).expect("the log");
        let heads = text.lines().filter(|line| line.starts_with("cpreg: vCPU "));
        let heads: Vec<_> = heads.map(|line| &line[..13]).collect();
        assert_eq!(heads, ["cpreg: vCPU 0", "cpreg: vCPU 3", "cpreg: vCPU 0"]);
    }

    /// The VMM closes all descriptors, and opens a disk image with the number of the log.
    #[test]
    fn a_file_of_the_vmm_is_never_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = |name| File::create(folder.path().join(name)).expect("a file");
        let mut output = Output::new(open("log")).expect("an output");
        assert!(output.write("one\n"));
        let image = open("image");
        // SAFETY: Both descriptors belong to this test.
        let copied = unsafe { libc::dup2(image.as_raw_fd(), output.file.as_raw_fd()) };
        assert!(copied >= 0);
        assert!(!output.write("two\n"));
        assert_eq!(image.metadata().expect("the image").len(), 0);
    }
}
