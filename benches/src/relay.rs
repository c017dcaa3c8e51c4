//! Cost of `cpreg relay` compared with `socat`: each forwards bytes from one Unix socket to
//! another.
//!
//! ```text
//! this process  ->  socket  ->  the command  ->  socket  ->  this process
//! ```
//!
//! The cases send:
//!
//! - Main channel: a whole stream with [`SENT_LEN`] bytes of pages. The pages are those of a
//!   smaller VM, sent repeatedly, as QEMU does for a guest that writes to them.
//! - Multifd channel: its channel header of 64 bytes and [`SENT_LEN`] opaque bytes, while a main
//!   channel waits.
//! - Memory: whole streams of VMs of several sizes.
//! - Added downtime: a stream of 64 vCPUs. Its device state is sent in chunks of 32 KiB like
//!   QEMU's, as fast as the relay reads them.
//!
//! All cases use the system's default socket buffers. The time is from the first sent byte to
//! the end of the connection at the receiver. CPU time and memory include the command's work before
//! it listens.

use std::env;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cpreg_stream::Stream;
use nix::sys::resource::{UsageWho, getrusage};

use cpreg_testdata::large_stream::{self, Size};

use crate::inputs::{self, GIB, MIB, create};
use crate::measure;
use e2e_framework::Result;
use e2e_framework::tool::{Tool, ensure_installed};

/// Number of runs, whose median is the result.
const RUNS: usize = 9;
/// Number of bytes of pages, and of a multifd channel.
const SENT_LEN: u64 = 2 * GIB;
/// Bytes of RAM of the VM whose pages are sent; more than the processor's caches hold.
const RAM: u64 = 64 * MIB;
/// Length of one write of pages: 64 pages, like QEMU's.
const SEND_CHUNK_LEN: usize = 256 << 10;
/// Length of one write of device state, which is the length of QEMU's buffer.
const DEVICE_STATE_CHUNK_LEN: usize = 32 << 10;
/// Target for the added downtime.
const TARGET_ADDED_DOWNTIME: Duration = Duration::from_millis(1);

/// Cost of one run.
#[derive(Clone, Copy, Debug, Default)]
struct RunCost {
    time: Duration,
    cpu: Duration,
    /// Peak memory in bytes.
    peak_memory: u64,
    /// Added downtime that the relay reports.
    reported_downtime: Option<Duration>,
    /// Added downtime that this process measures at the sockets.
    measured_downtime: Option<Duration>,
}

/// A stream in three parts, so that the pages can be sent repeatedly.
struct StreamParts {
    head: Vec<u8>,
    pages: Vec<u8>,
    tail: Vec<u8>,
    /// Range in `tail` from the first vCPU's payload to the end of the last vCPU's section.
    vcpus: std::ops::Range<usize>,
}

/// Data to send.
#[derive(Clone, Copy)]
enum Payload<'p> {
    /// Main channel with this number of bytes of pages.
    MainChannel(&'p StreamParts, u64),
    /// Channel with this number of opaque bytes. Through the relay, a main channel stays open
    /// meanwhile.
    OpaqueChannel(&'p StreamParts, u64),
}

/// Runs all cases in the empty `folder`.
pub(crate) fn run(cpreg: &str, folder: &Path, source: &[u8], destination: &[u8]) -> Result<()> {
    ensure_installed(&[Tool {
        program: "socat",
        package: "socat",
    }])?;
    let benchmark = RelayBenchmark { cpreg, folder };
    println!(
        "{:62} {:>9} {:>9} {:>7} {:>9} {:>9} {:>7} {:>9}",
        "case", "median", "baseline", "ratio", "CPU", "baseline", "ratio", "memory"
    );
    let small = Size {
        ram: RAM,
        sent_ram: RAM,
        vcpus: 1,
    };
    benchmark.write_destination(destination, small)?;
    let parts = benchmark.make_parts(source, small)?;
    for (baseline, options) in [("socat", &[][..]), ("socat -b 262144", &["-b", "262144"])] {
        let name = format!("relay, a main channel of 2 GiB, against {baseline}");
        benchmark.measure_against_socat(&name, Payload::MainChannel(&parts, SENT_LEN), options)?;
        let name = format!("relay, a multifd channel of 2 GiB, against {baseline}");
        benchmark.measure_against_socat(
            &name,
            Payload::OpaqueChannel(&parts, SENT_LEN),
            options,
        )?;
    }
    for (name, pages, vcpus) in [
        ("64 MiB of RAM", RAM, 1),
        ("2 GiB of RAM", SENT_LEN, 1),
        ("64 vCPUs", RAM, 64),
        ("256 vCPUs", RAM, 256),
    ] {
        let size = Size { vcpus, ..small };
        benchmark.write_destination(destination, size)?;
        let parts = benchmark.make_parts(source, size)?;
        let run = benchmark.run_relay(Payload::MainChannel(&parts, pages))?;
        println!(
            "{:62} {:>9} {:>9} {:>7} {:>9} {:>9} {:>7} {:>5} MiB",
            format!("relay, memory, {name}"),
            format!("{:.1?}", run.time),
            "",
            "",
            format!("{:.1?}", run.cpu),
            "",
            "",
            run.peak_memory.div_ceil(MIB)
        );
    }
    benchmark.measure_added_downtime(source, destination)
}

struct RelayBenchmark<'f> {
    cpreg: &'f str,
    folder: &'f Path,
}

impl RelayBenchmark<'_> {
    fn measure_against_socat(
        &self,
        name: &str,
        payload: Payload<'_>,
        socat_options: &[&str],
    ) -> Result<()> {
        let mut runs = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            runs.0.push(self.run_relay(payload)?);
            runs.1.push(self.run_socat(socat_options, payload)?);
        }
        let time = |runs: &[RunCost]| median(runs.iter().map(|run| run.time));
        let cpu = |runs: &[RunCost]| median(runs.iter().map(|run| run.cpu));
        let memory = runs.0.iter().map(|run| run.peak_memory).max().unwrap_or(0);
        let ((time, socat_time), (cpu, socat_cpu)) = (
            (time(&runs.0)?, time(&runs.1)?),
            (cpu(&runs.0)?, cpu(&runs.1)?),
        );
        let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
        println!(
            "{name:62} {:>9} {:>9} {:>7.3} {:>9} {:>9} {:>7.3} {:>5} MiB",
            format!("{time:.1?}"),
            format!("{socat_time:.1?}"),
            ratio(time, socat_time),
            format!("{cpu:.1?}"),
            format!("{socat_cpu:.1?}"),
            ratio(cpu, socat_cpu),
            memory.div_ceil(MIB)
        );
        Ok(())
    }

    fn measure_added_downtime(&self, source: &[u8], destination: &[u8]) -> Result<()> {
        let size = Size {
            ram: RAM,
            sent_ram: RAM,
            vcpus: 64,
        };
        self.write_destination(destination, size)?;
        let parts = self.make_parts(source, size)?;
        let mut runs = Vec::new();
        for _ in 0..RUNS {
            runs.push(self.run_relay(Payload::MainChannel(&parts, RAM))?);
        }
        let median_of =
            |field: fn(&RunCost) -> Option<Duration>| median(runs.iter().filter_map(field));
        for (name, downtime) in [
            (
                "as the relay reports it",
                median_of(|run| run.reported_downtime)?,
            ),
            (
                "as measured at the sockets",
                median_of(|run| run.measured_downtime)?,
            ),
        ] {
            println!(
                "{:62} {:>9} {:>9} {:>7.3}",
                format!("relay, added downtime, 64 vCPUs, {name}"),
                format!("{downtime:.1?}"),
                format!("{TARGET_ADDED_DOWNTIME:.1?}"),
                downtime.as_secs_f64() / TARGET_ADDED_DOWNTIME.as_secs_f64()
            );
        }
        Ok(())
    }

    fn write_destination(&self, recorded: &[u8], size: Size) -> Result<()> {
        let file = create(&self.folder.join("to"))?;
        Ok(large_stream::write(
            recorded,
            Size {
                sent_ram: 0,
                ..size
            },
            &file,
        )?)
    }

    fn make_parts(&self, recorded: &[u8], size: Size) -> Result<StreamParts> {
        let path = self.folder.join("vm");
        large_stream::write(recorded, size, &create(&path)?)?;
        let mut whole = Vec::new();
        File::open(&path)?.read_to_end(&mut whole)?;
        fs::remove_file(&path)?;
        StreamParts::split(whole, size.sent_ram)
    }

    /// Sends the payload through the relay.
    fn run_relay(&self, payload: Payload<'_>) -> Result<RunCost> {
        let command = [
            self.cpreg,
            "relay",
            "--listen",
            "unix:source.sock",
            "--connect",
            "unix:destination.sock",
            "--to",
            "to",
            "--allow-no-return-path",
            "--log-format",
            "json",
        ];
        self.run_command(&command, payload, true)
    }

    /// Sends the payload through socat.
    fn run_socat(&self, options: &[&str], payload: Payload<'_>) -> Result<RunCost> {
        // One direction only, because the benchmark sends nothing back.
        let addresses = [
            "-u",
            "UNIX-LISTEN:source.sock",
            "UNIX-CONNECT:destination.sock",
        ];
        let command = [&["socat"], options, &addresses].concat();
        self.run_command(&command, payload, false)
    }

    /// Sends the payload through a command, and receives its output.
    fn run_command(
        &self,
        command: &[&str],
        payload: Payload<'_>,
        is_relay: bool,
    ) -> Result<RunCost> {
        let [source, destination] =
            ["source.sock", "destination.sock"].map(|name| self.folder.join(name));
        for path in [&source, &destination] {
            inputs::remove(path)?;
        }
        let listener = UnixListener::bind(&destination)?;
        let mut child = Command::new(env::current_exe()?)
            .args(["run-measured"])
            .args(command)
            .current_dir(self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let times = thread::scope(|scope| {
            let receiver = scope.spawn(|| receive(&listener, payload, is_relay));
            let send_times = send(&source, &mut child, payload, is_relay)?;
            let receive_times = receiver.join().map_err(|_| "the receiver failed")??;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((send_times, receive_times))
        });
        let output = child.wait_with_output()?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let (send_times, receive_times) = times.map_err(|error| format!("{error}: {stderr}"))?;
        if !output.status.success() {
            return Err(format!("`{}` failed: {stderr}", command.join(" ")).into());
        }
        let cost = String::from_utf8(output.stdout)?;
        let (memory, cpu) = cost
            .trim()
            .split_once(' ')
            .ok_or("the command's cost is missing")?;
        let reported_downtime = stderr.lines().find_map(parse_added_downtime);
        let vcpu_times = receive_times.first_vcpu.zip(send_times.last_vcpu);
        Ok(RunCost {
            time: receive_times
                .end
                .saturating_duration_since(send_times.begin),
            cpu: Duration::from_micros(cpu.parse()?),
            peak_memory: memory.parse()?,
            reported_downtime,
            measured_downtime: vcpu_times
                .map(|(first, last)| first.saturating_duration_since(last)),
        })
    }
}

/// Returns the added downtime from the relay's log line that contains it.
fn parse_added_downtime(line: &str) -> Option<Duration> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let is_sent_event = line.get("event")?.as_str()? == "device-state-sent";
    let microseconds = line.get("added_downtime_us")?.as_u64()?;
    is_sent_event.then(|| Duration::from_micros(microseconds))
}

/// Times at which parts of the payload were sent.
struct SendTimes {
    begin: Instant,
    /// Time when the end of the last vCPU's section was sent.
    last_vcpu: Option<Instant>,
}

/// Times at which parts of the payload were received.
struct ReceiveTimes {
    first_vcpu: Option<Instant>,
    end: Instant,
}

fn send(
    source: &PathBuf,
    child: &mut Child,
    payload: Payload<'_>,
    is_relay: bool,
) -> Result<SendTimes> {
    while !source.exists() {
        if child.try_wait()?.is_some() {
            return Err("the command exited before it listened".into());
        }
        thread::sleep(Duration::from_millis(1));
    }
    let connect = || -> Result<UnixStream> {
        // A socket that is bound may not listen yet.
        for _ in 0..1000 {
            if let Ok(stream) = UnixStream::connect(source) {
                return Ok(stream);
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(UnixStream::connect(source)?)
    };
    match payload {
        Payload::MainChannel(parts, pages) => {
            let mut main = connect()?;
            let begin = Instant::now();
            main.write_all(&parts.head)?;
            parts.send_repeatedly(pages, &mut main)?;
            let mut last_vcpu = None;
            let (vcpus, rest) = parts.tail.split_at(parts.vcpus.end);
            for chunk in vcpus.chunks(DEVICE_STATE_CHUNK_LEN) {
                main.write_all(chunk)?;
                last_vcpu = Some(Instant::now());
            }
            main.write_all(rest)?;
            Ok(SendTimes { begin, last_vcpu })
        }
        Payload::OpaqueChannel(parts, bytes) => {
            let mut main = is_relay.then(&connect).transpose()?;
            if let Some(main) = &mut main {
                main.write_all(&parts.head)?;
                // Give the relay time to accept the main channel first.
                thread::sleep(Duration::from_millis(20));
            }
            let mut channel = connect()?;
            let begin = Instant::now();
            let mut header = [0; 64];
            header[..8].copy_from_slice(&[0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1]);
            channel.write_all(&header)?;
            parts.send_repeatedly(bytes, &mut channel)?;
            drop(channel);
            if let Some(main) = &mut main {
                main.write_all(&parts.pages)?;
                main.write_all(&parts.tail)?;
            }
            Ok(SendTimes {
                begin,
                last_vcpu: None,
            })
        }
    }
}

fn receive(listener: &UnixListener, payload: Payload<'_>, is_relay: bool) -> Result<ReceiveTimes> {
    match payload {
        Payload::MainChannel(parts, pages) => {
            let first_vcpu_offset = parts.head.len() as u64
                + parts.stream_len_of_pages(pages)
                + parts.vcpus.start as u64;
            let (main, _) = listener.accept()?;
            drain(main, first_vcpu_offset)
        }
        Payload::OpaqueChannel(parts, bytes) => {
            let main = is_relay.then(|| listener.accept()).transpose()?;
            let main = main.map(|(main, _)| thread::spawn(move || drain(main, u64::MAX).is_ok()));
            let (channel, _) = listener.accept()?;
            let times = drain(channel, 64 + parts.stream_len_of_pages(bytes) - 1)?;
            if times.first_vcpu.is_none() {
                return Err("not all bytes have arrived".into());
            }
            if main.is_some_and(|main| !main.join().unwrap_or(false)) {
                return Err("the main channel failed".into());
            }
            Ok(times)
        }
    }
}

/// Reads up to the end. Records as the time of the first vCPU when more than `first_vcpu_offset`
/// bytes have arrived.
fn drain(mut from: UnixStream, first_vcpu_offset: u64) -> Result<ReceiveTimes> {
    let mut buffer = vec![0; 1 << 20];
    let mut count = 0;
    let mut first_vcpu = None;
    loop {
        let received = from.read(&mut buffer)?;
        if received == 0 {
            let end = Instant::now();
            return Ok(ReceiveTimes { first_vcpu, end });
        }
        count += received as u64;
        if first_vcpu.is_none() && count > first_vcpu_offset {
            first_vcpu = Some(Instant::now());
        }
    }
}

impl StreamParts {
    fn split(mut whole: Vec<u8>, pages: u64) -> Result<Self> {
        const PAGE: usize = 4096;
        // Search for the record of the second page, because the form of the first one is not known.
        let second_record = (PAGE as u64 | 0x28).to_be_bytes();
        let start = whole.windows(8).position(|bytes| bytes == second_record);
        let start = start.ok_or("the pages are not found")?;
        let count = usize::try_from(pages)? / PAGE - 1;
        let end = start + count * (8 + PAGE);
        let stream = Stream::open(&whole)?;
        let cpus = stream.cpus();
        let (first, last) = cpus.first().zip(cpus.last()).ok_or("no vCPU")?;
        let offset_in_tail = |offset| usize::try_from(offset).map(|offset| offset - end);
        let vcpus = offset_in_tail(first.section().payload.start)?
            ..offset_in_tail(last.section().range.end)?;
        let tail = whole.split_off(end);
        let pages = whole.split_off(start);
        Ok(Self {
            head: whole,
            pages,
            tail,
            vcpus,
        })
    }

    /// Returns the number of bytes in the stream for this number of bytes of pages.
    fn stream_len_of_pages(&self, pages: u64) -> u64 {
        pages / RAM * self.pages.len() as u64
    }

    fn send_repeatedly(&self, pages: u64, to: &mut UnixStream) -> Result<()> {
        for _ in 0..pages / RAM {
            for chunk in self.pages.chunks(SEND_CHUNK_LEN) {
                to.write_all(chunk)?;
            }
        }
        Ok(())
    }
}

fn median(times: impl Iterator<Item = Duration>) -> Result<Duration> {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    Ok(times.get(times.len() / 2).copied().ok_or("no run")?)
}

/// Runs `run-measured COMMAND…`: runs the command, and prints its peak memory in bytes and its CPU
/// time in microseconds.
pub(crate) fn run_measured(command: &[&str]) -> Result<()> {
    let (program, arguments) = command.split_first().ok_or("no command")?;
    let status = Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(format!("{status}").into());
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let microseconds = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    println!(
        "{} {}",
        measure::peak_memory_of_children()?,
        microseconds(usage.user_time()) + microseconds(usage.system_time())
    );
    Ok(())
}
