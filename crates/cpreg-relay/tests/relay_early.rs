//! A relay's vCPUs: they go on before the devices behind them have come, and without the end if the whole turns out to be another.

#[path = "../../cpreg-stream/tests/common/mod.rs"]
mod common;

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use common::index;
use common::synthetic::SyntheticStream;
use cpreg_relay::{
    Address, CancelToken, Decision, Event, MigrationOutcome, MigrationPolicy, MigrationResult,
    Observer, Relay, VmLocation,
};
use cpreg_stream::incremental::{DeviceStateBuffer, StreamSetup};
use cpreg_stream::{Cpu, Edit, Section, Stream};

/// Far longer than anything here takes, even on a machine that is busy.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long nothing more must come.
const IDLE_TIMEOUT: Duration = Duration::from_millis(300);

/// Takes every third register away.
struct ShorteningPolicy {
    /// What becomes of each vCPU when it has come.
    sends_early: bool,
    /// And when all has come it is the same.
    shortens_stream: bool,
    rejects: bool,
}

fn shorten_cpu(cpu: &Cpu) -> Cpu {
    let mut vcpu = cpu.vcpu().unwrap();
    let ids: Vec<_> = vcpu.registers.iter().map(|(id, _)| id).collect();
    for id in ids.iter().step_by(3) {
        vcpu.registers.remove(*id);
    }
    cpu.with_state(&vcpu).unwrap()
}

fn shorten_stream(stream: &Stream, bytes: &dyn cpreg_stream::ReadAt) -> Edit {
    let mut vm = stream.vm().unwrap();
    for (vcpu, cpu) in vm.vcpus.iter_mut().zip(stream.cpus()) {
        *vcpu = shorten_cpu(cpu).vcpu().unwrap();
    }
    let edits = stream.diff_to(&vm).unwrap();
    stream.edit(bytes, &edits).unwrap()
}

impl MigrationPolicy for ShorteningPolicy {
    fn on_setup(&mut self, _: &StreamSetup) -> bool {
        true
    }

    fn on_vcpu(&mut self, cpu: &Cpu) -> Option<Cpu> {
        self.sends_early.then(|| shorten_cpu(cpu))
    }

    fn may_send_vcpus_early(&mut self, come: &[Section]) -> bool {
        assert_eq!(come.last().map(|it| it.name.as_str()), Some("cpu"));
        true
    }

    fn on_device_state(&mut self, held: &DeviceStateBuffer, stream: Stream) -> Decision {
        if self.rejects {
            return Decision::Reject;
        }
        Decision::Forward(if self.shortens_stream {
            shorten_stream(&stream, held)
        } else {
            Edit::identity(stream.length())
        })
    }
}

#[derive(Default)]
struct SentObserver(Mutex<Option<(u64, u64)>>);

impl Observer for SentObserver {
    fn on_event(&self, event: &Event<'_>) {
        if let Event::DeviceStateSent {
            bytes,
            early_bytes: early,
            ..
        } = event
        {
            *self.0.lock().unwrap() = Some((*bytes, *early));
        }
    }
}

/// What came of a migration.
struct TransferResult {
    /// What had arrived when only the first part had been sent.
    early_received: Vec<u8>,
    /// And in the end.
    received: Vec<u8>,
    result: MigrationResult,
    /// The bytes of device state that the relay told of, and how many of them went early.
    reported: Option<(u64, u64)>,
}

/// Sends a stream up to `first`, sees what arrives, at least so many bytes, and sends the rest.
fn send(whole: &[u8], first: usize, least: usize, mut judge: ShorteningPolicy) -> TransferResult {
    let folder = tempfile::tempdir().unwrap();
    let [here, there] = ["here", "there"].map(|name| folder.path().join(name));
    let destination = UnixListener::bind(&there).unwrap();
    let relay = Relay::bind(&Address::Unix(here.clone()), Address::Unix(there)).unwrap();
    let hears = SentObserver::default();
    thread::scope(|scope| {
        let ended = scope.spawn(|| {
            let user = CancelToken::new().unwrap();
            relay
                .serve_migration(&mut judge, &hears, &user)
                .unwrap()
                .unwrap()
        });
        let mut source = UnixStream::connect(here).unwrap();
        source.write_all(&whole[..first]).unwrap();
        let (mut arrives, _) = destination.accept().unwrap();
        let mut by_then = vec![0; least];
        arrives.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        arrives.read_exact(&mut by_then).unwrap();
        // What else goes on goes at once.
        arrives.set_read_timeout(Some(IDLE_TIMEOUT)).unwrap();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = arrives.read(&mut buffer) {
            by_then.extend_from_slice(&buffer[..count]);
        }
        arrives.set_read_timeout(None).unwrap();
        // It may be gone by then.
        let _ = source.write_all(&whole[first..]);
        drop(source);
        let mut all = by_then.clone();
        let _ = arrives.read_to_end(&mut all);
        drop(arrives);
        let ended = ended.join().unwrap();
        let told = *hears.0.lock().unwrap();
        TransferResult {
            early_received: by_then,
            received: all,
            result: ended,
            reported: told,
        }
    })
}

/// A stream, where the first device begins, and where the device behind the last vCPU has begun.
fn make_stream(vcpus: u32, postcopy: bool) -> (Vec<u8>, usize, usize) {
    let whole = SyntheticStream {
        vcpus,
        postcopy,
        ..SyntheticStream::default()
    }
    .bytes();
    let stream = Stream::open(&whole).unwrap();
    let sections = stream.sections();
    let behind = sections.iter().position(|it| it.name.contains("device"));
    let behind = index(sections[behind.unwrap()].payload.start);
    let begins = match stream.package() {
        Some(package) => index(package.length_field) - 5,
        None => index(sections[0].range.start),
    };
    (whole, begins, behind)
}

#[test]
fn vcpus_go_on_before_the_devices_behind_them_have_come() {
    for (vcpus, postcopy) in [(1, false), (3, false), (64, false), (2, true)] {
        let (whole, begins, behind) = make_stream(vcpus, postcopy);
        let stream = Stream::open(&whole).unwrap();
        let edit = shorten_stream(&stream, &whole);
        let expected = common::bytes(&edit.apply_to(&whole));
        for tells in [true, false] {
            let least = begins + usize::from(tells);
            let judge = ShorteningPolicy {
                sends_early: tells,
                shortens_stream: true,
                rejects: false,
            };
            let TransferResult {
                early_received: by_then,
                received: all,
                result: ended,
                reported: told,
            } = send(&whole, behind, least, judge);
            assert!(
                matches!(ended.outcome, MigrationOutcome::Completed),
                "{:?}",
                ended.outcome
            );
            assert!(all == expected, "{vcpus} vCPUs, early: {tells}");
            assert_eq!(ended.main_channel_bytes, expected.len() as u64);
            let (bytes, early) = told.unwrap();
            if tells {
                // Up to the last vCPU's footer.
                assert!(by_then.len() < behind && by_then.len() > begins);
                assert_eq!(early, (by_then.len() - begins) as u64);
            } else {
                assert_eq!((by_then.len(), early), (begins, 0));
            }
            assert!(bytes > early);
        }
    }
}

#[test]
fn no_end_goes_on_if_the_whole_is_another_or_refused() {
    for (vcpus, postcopy) in [(3, false), (2, true)] {
        let (whole, begins, behind) = make_stream(vcpus, postcopy);
        for refuses in [false, true] {
            let judge = ShorteningPolicy {
                sends_early: true,
                shortens_stream: false,
                rejects: refuses,
            };
            let TransferResult {
                early_received: by_then,
                received: all,
                result: ended,
                reported: told,
            } = send(&whole, behind, begins + 1, judge);
            assert!(by_then.len() > begins && told.is_none());
            assert!(all == by_then, "more went on than the vCPUs");
            match ended.outcome {
                MigrationOutcome::Refused => assert!(refuses),
                MigrationOutcome::Failed(error) => {
                    assert!(
                        !refuses && error.hint().unwrap().contains("cannot run"),
                        "{error}"
                    );
                }
                other => panic!("{other:?}"),
            }
            assert_ne!(ended.vm_location, VmLocation::Destination);
            assert!(Stream::open_by_full_scan(&all).is_err());
        }
    }
}

#[test]
fn a_source_that_ends_behind_its_vcpus_leaves_no_end() {
    let (whole, begins, behind) = make_stream(3, false);
    let judge = ShorteningPolicy {
        sends_early: true,
        shortens_stream: true,
        rejects: false,
    };
    let TransferResult {
        early_received: by_then,
        received: all,
        result: ended,
        ..
    } = send(&whole[..behind], behind, begins + 1, judge);
    assert!(all == by_then);
    assert!(matches!(ended.outcome, MigrationOutcome::Failed(_)));
    assert_eq!(ended.vm_location, VmLocation::SourceRunning);
}
