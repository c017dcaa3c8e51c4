//! What `cpreg relay` costs beside `socat`: bytes from one unix socket to another.
//!
//! ```text
//! this process  ->  socket  ->  the command  ->  socket  ->  this process
//! ```
//!
//! | case | what is sent |
//! |---|---|
//! | a main channel | a whole stream with [`SENT_LEN`] bytes of pages, which are those of a smaller VM sent again and again, as a guest that writes to them makes QEMU do |
//! | a multifd channel | its 64 bytes of greeting, and as many bytes that nobody understands, beside a main channel that waits |
//! | memory | whole streams of VMs of several sizes |
//! | the pause | a stream of 64 vCPUs, its device state in pieces of 32 KiB as QEMU sends it, and as fast as they are taken |
//!
//! The sockets' buffers are the system's for all. Time is from the first byte sent to the end of the last byte's connection; what
//! the command does before it listens is in its CPU time and memory.

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

/// Of so many runs the middle one counts.
const RUNS: usize = 9;
/// So many bytes of pages, and of a multifd channel.
const SENT_LEN: u64 = 2 * GIB;
/// RAM of the VM whose pages they are: more than the processor's caches hold.
const RAM: u64 = 64 * MIB;
/// What is sent at once: 64 pages, as QEMU does.
const SEND_CHUNK_LEN: usize = 256 << 10;
/// And of device state: QEMU's buffer.
const DEVICE_STATE_CHUNK_LEN: usize = 32 << 10;
/// The pause that is aimed at.
const TARGET_PAUSE: Duration = Duration::from_millis(1);

/// What one run cost.
#[derive(Clone, Copy, Debug, Default)]
struct RunCost {
    time: Duration,
    cpu: Duration,
    /// In bytes.
    peak_memory: u64,
    /// As the relay told it.
    reported_pause: Option<Duration>,
    /// As it is seen from outside.
    observed_pause: Option<Duration>,
}

/// A stream in three parts, of which the middle one may be sent again and again.
struct StreamParts {
    head: Vec<u8>,
    pages: Vec<u8>,
    tail: Vec<u8>,
    /// Where in the last part the first vCPU's section begins, and where the last one ends.
    vcpus: std::ops::Range<usize>,
}

/// What is sent, and how.
#[derive(Clone, Copy)]
enum Payload<'p> {
    /// A main channel with so many bytes of pages.
    MainChannel(&'p StreamParts, u64),
    /// So many bytes that nobody understands; for the relay beside a main channel.
    OpaqueChannel(&'p StreamParts, u64),
}

/// All cases; `folder` is empty.
pub(crate) fn run(cpreg: &str, folder: &Path, source: &[u8], destination: &[u8]) -> Result<()> {
    ensure_installed(&[Tool {
        program: "socat",
        package: "socat",
    }])?;
    let bench = RelayBenchmark { cpreg, folder };
    println!(
        "{:62} {:>9} {:>9} {:>7} {:>9} {:>9} {:>7} {:>9}",
        "case", "median", "baseline", "ratio", "CPU", "baseline", "ratio", "memory"
    );
    let small = Size {
        ram: RAM,
        sent_ram: RAM,
        vcpus: 1,
    };
    bench.destination(destination, small)?;
    let parts = bench.parts(source, small)?;
    for (beside, blocks) in [("socat", &[][..]), ("socat -b 262144", &["-b", "262144"])] {
        let name = format!("relay, a main channel of 2 GiB, beside {beside}");
        bench.measure_against_socat(&name, Payload::MainChannel(&parts, SENT_LEN), blocks)?;
        let name = format!("relay, a multifd channel of 2 GiB, beside {beside}");
        bench.measure_against_socat(&name, Payload::OpaqueChannel(&parts, SENT_LEN), blocks)?;
    }
    for (name, pages, vcpus) in [
        ("64 MiB of RAM", RAM, 1),
        ("2 GiB of RAM", SENT_LEN, 1),
        ("64 vCPUs", RAM, 64),
        ("256 vCPUs", RAM, 256),
    ] {
        let size = Size { vcpus, ..small };
        bench.destination(destination, size)?;
        let parts = bench.parts(source, size)?;
        let run = bench.relay(Payload::MainChannel(&parts, pages))?;
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
    bench.measure_pause(source, destination)
}

struct RelayBenchmark<'f> {
    cpreg: &'f str,
    folder: &'f Path,
}

impl RelayBenchmark<'_> {
    fn measure_against_socat(&self, name: &str, sent: Payload<'_>, socat: &[&str]) -> Result<()> {
        let mut runs = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            runs.0.push(self.relay(sent)?);
            runs.1.push(self.socat(socat, sent)?);
        }
        let time = |runs: &[RunCost]| median(runs.iter().map(|run| run.time));
        let cpu = |runs: &[RunCost]| median(runs.iter().map(|run| run.cpu));
        let memory = runs.0.iter().map(|run| run.peak_memory).max().unwrap_or(0);
        let ((time, its_time), (cpu, its_cpu)) = (
            (time(&runs.0)?, time(&runs.1)?),
            (cpu(&runs.0)?, cpu(&runs.1)?),
        );
        let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
        println!(
            "{name:62} {:>9} {:>9} {:>7.3} {:>9} {:>9} {:>7.3} {:>5} MiB",
            format!("{time:.1?}"),
            format!("{its_time:.1?}"),
            ratio(time, its_time),
            format!("{cpu:.1?}"),
            format!("{its_cpu:.1?}"),
            ratio(cpu, its_cpu),
            memory.div_ceil(MIB)
        );
        Ok(())
    }

    fn measure_pause(&self, source: &[u8], destination: &[u8]) -> Result<()> {
        let size = Size {
            ram: RAM,
            sent_ram: RAM,
            vcpus: 64,
        };
        self.destination(destination, size)?;
        let parts = self.parts(source, size)?;
        let mut runs = Vec::new();
        for _ in 0..RUNS {
            runs.push(self.relay(Payload::MainChannel(&parts, RAM))?);
        }
        let of = |pause: fn(&RunCost) -> Option<Duration>| median(runs.iter().filter_map(pause));
        for (name, pause) in [
            ("as the relay tells it", of(|run| run.reported_pause)?),
            ("as it is seen from outside", of(|run| run.observed_pause)?),
        ] {
            println!(
                "{:62} {:>9} {:>9} {:>7.3}",
                format!("relay, the added pause, 64 vCPUs, {name}"),
                format!("{pause:.1?}"),
                format!("{TARGET_PAUSE:.1?}"),
                pause.as_secs_f64() / TARGET_PAUSE.as_secs_f64()
            );
        }
        Ok(())
    }

    fn destination(&self, recorded: &[u8], size: Size) -> Result<()> {
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

    fn parts(&self, recorded: &[u8], size: Size) -> Result<StreamParts> {
        let path = self.folder.join("vm");
        large_stream::write(recorded, size, &create(&path)?)?;
        let mut whole = Vec::new();
        File::open(&path)?.read_to_end(&mut whole)?;
        fs::remove_file(&path)?;
        StreamParts::split(whole, size.sent_ram)
    }

    fn relay(&self, sent: Payload<'_>) -> Result<RunCost> {
        let command = [
            self.cpreg,
            "relay",
            "--listen",
            "unix:here",
            "--connect",
            "unix:there",
            "--to",
            "to",
            "--allow-no-return-path",
            "--log-format",
            "json",
        ];
        self.run_command(&command, sent, true)
    }

    fn socat(&self, options: &[&str], sent: Payload<'_>) -> Result<RunCost> {
        // One direction, as nothing goes back.
        let addresses = ["-u", "UNIX-LISTEN:here", "UNIX-CONNECT:there"];
        let command = [&["socat"], options, &addresses].concat();
        self.run_command(&command, sent, false)
    }

    /// Sends through a command, and takes what it sends on.
    fn run_command(&self, command: &[&str], sent: Payload<'_>, is_relay: bool) -> Result<RunCost> {
        let [here, there] = ["here", "there"].map(|name| self.folder.join(name));
        for path in [&here, &there] {
            inputs::remove(path)?;
        }
        let listener = UnixListener::bind(&there)?;
        let mut child = Command::new(env::current_exe()?)
            .args(["costs"])
            .args(command)
            .current_dir(self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let sent = thread::scope(|scope| {
            let takes = scope.spawn(|| receive(&listener, sent, is_relay));
            let times = send(&here, &mut child, sent, is_relay)?;
            let taken = takes.join().map_err(|_| "the receiving end failed")??;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((times, taken))
        });
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let (times, taken) = sent.map_err(|error| format!("{error}: {said}"))?;
        if !output.status.success() {
            return Err(format!("`{}` failed: {said}", command.join(" ")).into());
        }
        let figures = String::from_utf8(output.stdout)?;
        let (memory, cpu) = figures.trim().split_once(' ').ok_or("no figures")?;
        let pause = said.lines().find_map(parse_pause);
        let seen = taken.first_vcpu.zip(times.last_vcpu);
        Ok(RunCost {
            time: taken.end.saturating_duration_since(times.begin),
            cpu: Duration::from_micros(cpu.parse()?),
            peak_memory: memory.parse()?,
            reported_pause: pause,
            observed_pause: seen.map(|(first, last)| first.saturating_duration_since(last)),
        })
    }
}

/// The pause in a line of the relay's log, if it is that line.
fn parse_pause(line: &str) -> Option<Duration> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let is_it = line.get("event")?.as_str()? == "device-state-sent";
    let microseconds = line.get("added_downtime_us")?.as_u64()?;
    is_it.then(|| Duration::from_micros(microseconds))
}

/// When something was sent.
struct SendTimes {
    begin: Instant,
    /// The end of the last vCPU's section.
    last_vcpu: Option<Instant>,
}

/// When something came.
struct ReceiveTimes {
    first_vcpu: Option<Instant>,
    end: Instant,
}

fn send(here: &PathBuf, child: &mut Child, sent: Payload<'_>, is_relay: bool) -> Result<SendTimes> {
    while !here.exists() {
        if child.try_wait()?.is_some() {
            return Err("it ended before it listened".into());
        }
        thread::sleep(Duration::from_millis(1));
    }
    let connect = || -> Result<UnixStream> {
        // Whoever has bound a name need not listen yet.
        for _ in 0..1000 {
            if let Ok(stream) = UnixStream::connect(here) {
                return Ok(stream);
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(UnixStream::connect(here)?)
    };
    match sent {
        Payload::MainChannel(parts, pages) => {
            let mut main = connect()?;
            let begin = Instant::now();
            main.write_all(&parts.head)?;
            parts.send_repeatedly(pages, &mut main)?;
            let mut last_vcpu = None;
            let (vcpus, behind) = parts.tail.split_at(parts.vcpus.end);
            for piece in vcpus.chunks(DEVICE_STATE_CHUNK_LEN) {
                main.write_all(piece)?;
                last_vcpu = Some(Instant::now());
            }
            main.write_all(behind)?;
            Ok(SendTimes { begin, last_vcpu })
        }
        Payload::OpaqueChannel(parts, bytes) => {
            let mut main = is_relay.then(&connect).transpose()?;
            if let Some(main) = &mut main {
                main.write_all(&parts.head)?;
                // So that it is the first one that comes.
                thread::sleep(Duration::from_millis(20));
            }
            let mut channel = connect()?;
            let begin = Instant::now();
            let mut greeting = [0; 64];
            greeting[..8].copy_from_slice(&[0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1]);
            channel.write_all(&greeting)?;
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

fn receive(listener: &UnixListener, sent: Payload<'_>, is_relay: bool) -> Result<ReceiveTimes> {
    match sent {
        Payload::MainChannel(parts, pages) => {
            let first = parts.head.len() as u64 + parts.bytes(pages) + parts.vcpus.start as u64;
            let (main, _) = listener.accept()?;
            drain(main, first)
        }
        Payload::OpaqueChannel(parts, bytes) => {
            let main = is_relay.then(|| listener.accept()).transpose()?;
            let main = main.map(|(main, _)| thread::spawn(move || drain(main, u64::MAX).is_ok()));
            let (channel, _) = listener.accept()?;
            let taken = drain(channel, 64 + parts.bytes(bytes) - 1)?;
            if taken.first_vcpu.is_none() {
                return Err("not all that was sent has come".into());
            }
            if main.is_some_and(|main| !main.join().unwrap_or(false)) {
                return Err("the main channel failed".into());
            }
            Ok(taken)
        }
    }
}

/// Reads up to the end; notes when more than so many bytes had come.
fn drain(mut from: UnixStream, first: u64) -> Result<ReceiveTimes> {
    let mut buffer = vec![0; 1 << 20];
    let mut count = 0;
    let mut first_vcpu = None;
    loop {
        let taken = from.read(&mut buffer)?;
        if taken == 0 {
            let end = Instant::now();
            return Ok(ReceiveTimes { first_vcpu, end });
        }
        count += taken as u64;
        if first_vcpu.is_none() && count > first {
            first_vcpu = Some(Instant::now());
        }
    }
}

impl StreamParts {
    fn split(mut whole: Vec<u8>, pages: u64) -> Result<Self> {
        const PAGE: usize = 4096;
        // The second page's record; of the first one it is not known how it was sent.
        let second = (PAGE as u64 | 0x28).to_be_bytes();
        let start = whole.windows(8).position(|bytes| bytes == second);
        let start = start.ok_or("no pages where they must be")?;
        let count = usize::try_from(pages)? / PAGE - 1;
        let end = start + count * (8 + PAGE);
        let stream = Stream::open(&whole)?;
        let cpus = stream.cpus();
        let (first, last) = cpus.first().zip(cpus.last()).ok_or("no vCPU")?;
        let inside = |offset| usize::try_from(offset).map(|offset| offset - end);
        let vcpus = inside(first.section().payload.start)?..inside(last.section().range.end)?;
        let behind = whole.split_off(end);
        let pages = whole.split_off(start);
        Ok(Self {
            head: whole,
            pages,
            tail: behind,
            vcpus,
        })
    }

    /// How many bytes are sent for so many of pages.
    fn bytes(&self, pages: u64) -> u64 {
        pages / RAM * self.pages.len() as u64
    }

    fn send_repeatedly(&self, pages: u64, to: &mut UnixStream) -> Result<()> {
        for _ in 0..pages / RAM {
            for piece in self.pages.chunks(SEND_CHUNK_LEN) {
                to.write_all(piece)?;
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

/// `costs COMMAND…`: runs it, and says what memory it had at its peak, in bytes, and what CPU time it took, in microseconds.
pub(crate) fn costs(command: &[&str]) -> Result<()> {
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
