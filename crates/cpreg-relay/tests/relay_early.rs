//! A relay's vCPUs: they go on before the devices behind them have come, and without the end if the whole turns out to be another.

#[path = "../../cpreg-stream/tests/common/mod.rs"]
mod common;

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use common::index;
use common::made::Made;
use cpreg_relay::{
    Address, Cancel, Ended, Event, Judge, Judgement, Observer, Outcome, Relay, Whereabouts,
};
use cpreg_stream::incremental::{Held, Outline};
use cpreg_stream::{Cpu, Edit, Section, Stream};

/// Far longer than anything here takes, even on a machine that is busy.
const LONG: Duration = Duration::from_secs(60);
/// How long nothing more must come.
const QUIET: Duration = Duration::from_millis(300);

/// Takes every third register away.
struct Shortens {
    /// What becomes of each vCPU when it has come.
    tells: bool,
    /// And when all has come it is the same.
    in_the_end: bool,
    refuses: bool,
}

fn shortened(cpu: &Cpu) -> Cpu {
    let mut vcpu = cpu.vcpu().unwrap();
    let ids: Vec<_> = vcpu.registers.iter().map(|(id, _)| id).collect();
    for id in ids.iter().step_by(3) {
        vcpu.registers.remove(*id);
    }
    cpu.changed_to(&vcpu).unwrap()
}

fn shorter(stream: &Stream, bytes: &dyn cpreg_stream::ReadAt) -> Edit {
    let mut vm = stream.vm().unwrap();
    for (vcpu, cpu) in vm.vcpus.iter_mut().zip(stream.cpus()) {
        *vcpu = shortened(cpu).vcpu().unwrap();
    }
    let edits = stream.changes_to(&vm).unwrap();
    stream.edit(bytes, &edits).unwrap()
}

impl Judge for Shortens {
    fn may_begin(&mut self, _: &Outline) -> bool {
        true
    }

    fn vcpu(&mut self, cpu: &Cpu) -> Option<Cpu> {
        self.tells.then(|| shortened(cpu))
    }

    fn vcpus_may_go_on(&mut self, come: &[Section]) -> bool {
        assert_eq!(come.last().map(|it| it.name.as_str()), Some("cpu"));
        true
    }

    fn judge(&mut self, held: &Held, stream: Stream) -> Judgement {
        if self.refuses {
            return Judgement::Refused;
        }
        Judgement::GoesOn(if self.in_the_end {
            shorter(&stream, held)
        } else {
            Edit::unchanged(stream.length())
        })
    }
}

#[derive(Default)]
struct Hears(Mutex<Option<(u64, u64)>>);

impl Observer for Hears {
    fn hear(&self, event: &Event<'_>) {
        if let Event::WentOn { bytes, early, .. } = event {
            *self.0.lock().unwrap() = Some((*bytes, *early));
        }
    }
}

/// What came of a migration.
struct Came {
    /// What had arrived when only the first part had been sent.
    by_then: Vec<u8>,
    /// And in the end.
    all: Vec<u8>,
    ended: Ended,
    /// The bytes of device state that the relay told of, and how many of them went early.
    told: Option<(u64, u64)>,
}

/// Sends a stream up to `first`, sees what arrives, at least so many bytes, and sends the rest.
fn send(whole: &[u8], first: usize, least: usize, mut judge: Shortens) -> Came {
    let folder = tempfile::tempdir().unwrap();
    let [here, there] = ["here", "there"].map(|name| folder.path().join(name));
    let destination = UnixListener::bind(&there).unwrap();
    let relay = Relay::bind(&Address::Unix(here.clone()), Address::Unix(there)).unwrap();
    let hears = Hears::default();
    thread::scope(|scope| {
        let ended = scope.spawn(|| {
            let user = Cancel::new().unwrap();
            relay.migrate(&mut judge, &hears, &user).unwrap().unwrap()
        });
        let mut source = UnixStream::connect(here).unwrap();
        source.write_all(&whole[..first]).unwrap();
        let (mut arrives, _) = destination.accept().unwrap();
        let mut by_then = vec![0; least];
        arrives.set_read_timeout(Some(LONG)).unwrap();
        arrives.read_exact(&mut by_then).unwrap();
        // What else goes on goes at once.
        arrives.set_read_timeout(Some(QUIET)).unwrap();
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
        Came {
            by_then,
            all,
            ended,
            told,
        }
    })
}

/// A stream, where the first device begins, and where the device behind the last vCPU has begun.
fn made(vcpus: u32, postcopy: bool) -> (Vec<u8>, usize, usize) {
    let whole = Made {
        vcpus,
        postcopy,
        ..Made::default()
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
        let (whole, begins, behind) = made(vcpus, postcopy);
        let stream = Stream::open(&whole).unwrap();
        let edit = shorter(&stream, &whole);
        let expected = common::bytes(&edit.over(&whole));
        for tells in [true, false] {
            let least = begins + usize::from(tells);
            let judge = Shortens {
                tells,
                in_the_end: true,
                refuses: false,
            };
            let Came {
                by_then,
                all,
                ended,
                told,
            } = send(&whole, behind, least, judge);
            assert!(
                matches!(ended.outcome, Outcome::WentOn),
                "{:?}",
                ended.outcome
            );
            assert!(all == expected, "{vcpus} vCPUs, early: {tells}");
            assert_eq!(ended.passed, expected.len() as u64);
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
        let (whole, begins, behind) = made(vcpus, postcopy);
        for refuses in [false, true] {
            let judge = Shortens {
                tells: true,
                in_the_end: false,
                refuses,
            };
            let Came {
                by_then,
                all,
                ended,
                told,
            } = send(&whole, behind, begins + 1, judge);
            assert!(by_then.len() > begins && told.is_none());
            assert!(all == by_then, "more went on than the vCPUs");
            match ended.outcome {
                Outcome::Refused => assert!(refuses),
                Outcome::Broken(error) => {
                    assert!(
                        !refuses && error.hint().unwrap().contains("cannot run"),
                        "{error}"
                    );
                }
                other => panic!("{other:?}"),
            }
            assert_ne!(ended.whereabouts, Whereabouts::Destination);
            assert!(Stream::from_the_front(&all).is_err());
        }
    }
}

#[test]
fn a_source_that_ends_behind_its_vcpus_leaves_no_end() {
    let (whole, begins, behind) = made(3, false);
    let judge = Shortens {
        tells: true,
        in_the_end: true,
        refuses: false,
    };
    let Came {
        by_then,
        all,
        ended,
        ..
    } = send(&whole[..behind], behind, begins + 1, judge);
    assert!(all == by_then);
    assert!(matches!(ended.outcome, Outcome::Broken(_)));
    assert_eq!(ended.whereabouts, Whereabouts::SourceGoesOn);
}
